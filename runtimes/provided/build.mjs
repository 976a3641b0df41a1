/**
 * Compiles the static init into `dist/init-<architecture>`, for this machine. Runtime images need it for the
 * engine's machine; `runtimes/images` compiles it in a container where this file cannot.
 */
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, realpathSync, renameSync, rmSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const folder = fileURLToPath(new URL('.', import.meta.url));
const dist = join(folder, 'dist');
const COMPILE_DEADLINE_MS = 120_000;

/** musl makes 50 KB; glibc, on which a C compiler can fall back, 700 KB that do the same. */
const COMPILERS = ['musl-gcc', 'gcc', 'cc'];

export const INIT_FLAGS = [
  '-static',
  '-s',
  '-O2',
  '-std=gnu11',
  '-D_GNU_SOURCE',
  '-Wall',
  '-Wextra',
  '-Wconversion',
  '-Wshadow',
  '-Wformat=2',
  '-Wstrict-prototypes',
  '-Wvla',
  '-Werror',
  '-fstack-protector-strong',
  '-fno-strict-aliasing',
  '-Wl,-z,relro,-z,now,-z,noexecstack',
];

/** @public The build of the images compiles them in a container. */
export const INIT_SOURCES = join(folder, 'init');

/** Where the init for an architecture (`x64`, `arm64`) is, once it is compiled. */
export function initFile(architecture = process.arch) {
  return join(dist, `init-${architecture}`);
}

/** @public Whether it is there and newer than all it is made of. */
export function initIsFresh(architecture = process.arch) {
  const made = statSync(initFile(architecture), { throwIfNoEntry: false });
  const sources = [fileURLToPath(import.meta.url), ...sourceFiles(), join(INIT_SOURCES, 'init.h')];
  return made !== undefined && sources.every((path) => statSync(path).mtimeMs <= made.mtimeMs);
}

/** Makes it unless it is fresh. Returns why that is not possible here, in words for a person, or undefined. Throws when it does not compile. */
export function buildInit() {
  if (initIsFresh()) return undefined;
  if (process.platform !== 'linux') return 'the init is a Linux program, and this is not Linux';
  for (const compiler of COMPILERS) {
    const complaint = compileWith(compiler, INIT_FLAGS, sourceFiles(), initFile());
    if (complaint === undefined) return undefined;
    if (complaint !== ABSENT) throw new Error(`The static init does not compile with ${compiler}:\n${complaint}`);
  }
  return NO_COMPILER;
}

/** Compiles C sources into one static program for this machine. Throws with what is missing or wrong. */
export function compileStatic(sources, target, flags = ['-static']) {
  for (const compiler of COMPILERS) {
    const complaint = compileWith(compiler, flags, sources, target);
    if (complaint === undefined) return;
    if (complaint !== ABSENT) throw new Error(complaint);
  }
  throw new Error(NO_COMPILER);
}

const NO_COMPILER = 'there is no musl-gcc (Debian: apt-get install musl-tools), and no C compiler with a static libc';

const ABSENT = 'absent';

/** Undefined when it is done, ABSENT when there is no such compiler or it cannot link statically, else what it said. */
function compileWith(compiler, flags, sources, target) {
  mkdirSync(dirname(target), { recursive: true });
  const staging = mkdtempSync(join(dirname(target), '.compile-'));
  try {
    const made = join(staging, 'program');
    const compiled = spawnSync(compiler, [...flags, '-o', made, ...sources], {
      encoding: 'utf8',
      timeout: COMPILE_DEADLINE_MS,
    });
    if (compiled.error?.code === 'ENOENT') return ABSENT;
    if (compiled.error !== undefined) return compiled.error.message;
    if (compiled.status !== 0)
      return /cannot find -lc\b|cannot find .*crt1\.o/.test(compiled.stderr) ? ABSENT : compiled.stderr;
    chmodSync(made, 0o755);
    renameSync(made, target);
    return undefined;
  } finally {
    rmSync(staging, { recursive: true, force: true });
  }
}

export function sourceFiles() {
  return readdirSync(INIT_SOURCES)
    .filter((name) => name.endsWith('.c'))
    .sort()
    .map((name) => join(INIT_SOURCES, name));
}

if (process.argv[1] !== undefined && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const impossible = buildInit();
  if (impossible !== undefined) {
    process.stderr.write(`The static init cannot be compiled here: ${impossible}.\n`);
    process.exitCode = 1;
  }
}
