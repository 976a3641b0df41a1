import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const COMPILE_DEADLINE_MS = 110_000;

export function bootstrapSource(name: string): string {
  return fileURLToPath(new URL(`bootstraps/${name}`, import.meta.url));
}

/** The function in C as a static program. Throws with what is missing: it is always tested. */
export function bootstrapInC(): Buffer {
  for (const compiler of ['musl-gcc', 'gcc', 'cc']) {
    const built = build(compiler, (target) => [
      '-static',
      '-s',
      '-O1',
      '-D_GNU_SOURCE',
      '-o',
      target,
      bootstrapSource('bootstrap.c'),
    ]);
    if (built !== undefined) return built;
  }
  throw new Error(
    'a test compiles a function in C, and there is no musl-gcc (apt-get install musl-tools) or other C compiler',
  );
}

/** The function in Go; undefined, after a line that says so, where there is no Go. No fresh machine has it. */
export function bootstrapInGo(): Buffer | undefined {
  const built = build('go', (target) => ['build', '-o', target, bootstrapSource('bootstrap.go')]);
  if (built === undefined) process.stderr.write('There is no Go on this machine, so its function is not tested.\n');
  return built;
}

function build(compiler: string, args: (target: string) => readonly string[]): Buffer | undefined {
  const folder = mkdtempSync(join(tmpdir(), 'bootstrap-'));
  try {
    const target = join(folder, 'bootstrap');
    const env = { ...process.env, CGO_ENABLED: '0', GOOS: 'linux', GOFLAGS: '', GOTOOLCHAIN: 'local' };
    execFileSync(compiler, args(target), { env, stdio: 'pipe', timeout: COMPILE_DEADLINE_MS });
    return readFileSync(target);
  } catch (err) {
    if ((err as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw err;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
