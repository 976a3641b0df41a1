import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import Module from 'node:module';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { crc32 } from 'node:zlib';
import { EagerFlags } from './eager-flags.js';
import { findSources, type Source } from './find-sources.js';
import { compileCache, nodeFolder } from './node-compile-cache.js';

export interface CompiledFile {
  /** Relative to the code cache. */
  readonly path: string;
  readonly bytes: Buffer;
}

const LIMITS = { filesMax: 2_000, bytesMax: 8 * 1024 * 1024 };
const TIME_MS_MAX = 10_000;
/** A little less than fits a frame. */
const FILE_BYTES_MAX = 6 * 1024 * 1024;

/** Before the code in one of Node's files: magic number, source bytes, code bytes, source checksum, code checksum. */
const HEAD_BYTES = 20;
const CODE_BYTES_AT = 8;
const CODE_CHECKSUM_AT = 16;

/**
 * Compiles the code below `taskRoot` without running any of it, and returns the files that Node's compile cache makes of it.
 * Nothing, where this Node has no such cache. Must be the only thing that a process does: V8's flags change meanwhile.
 */
export async function compileTree(taskRoot: string): Promise<readonly CompiledFile[]> {
  if (compileCache === undefined) {
    return [];
  }
  // Of code that is not what it seems; nobody reads them here.
  process.removeAllListeners('warning');
  const folder = mkdtempSync(join(tmpdir(), 'code-cache-'));
  try {
    compileCache.enableCompileCache(folder);
    const eager = EagerFlags.find();
    eager?.begin();
    const until = Date.now() + TIME_MS_MAX;
    for (const source of findSources(taskRoot, LIMITS)) {
      await compile(source);
      if (Date.now() > until) {
        break;
      }
    }
    eager?.end();
    compileCache.flushCompileCache();
    const directory = compileCache.getCompileCacheDir() ?? folder;
    return collect(directory, join(nodeFolder(taskRoot), basename(directory)), eager);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function compile(source: Source): Promise<void> {
  if (source.file.endsWith('.mjs') || !compileCommonJs(source)) {
    await compileEsModule(source);
  }
}

const NOT_RUN = Symbol('compiled, and not run');

/**
 * Node's own loader compiles the file, then looks for `module.exports`, which it would pass to the code: that is where it stops.
 * False when the file is no CommonJS.
 */
function compileCommonJs({ file, text }: Source): boolean {
  const module = new Module(file) as Module & { _compile(text: string, file: string, format: string): void };
  Object.defineProperty(module, 'exports', {
    get() {
      throw NOT_RUN;
    },
  });
  try {
    module._compile(text, file, 'commonjs');
  } catch (thrown) {
    return thrown === NOT_RUN;
  }
  return false;
}

/** Modules run when all that they import has been found. This one imports the file, and what cannot be found. */
async function compileEsModule({ file }: Source): Promise<void> {
  const importing = `import ${JSON.stringify(pathToFileURL(file).href)}; import 'lambda-fleet-compile-only:';`;
  await import(`data:text/javascript,${encodeURIComponent(importing)}`).catch(() => {});
}

function collect(directory: string, path: string, eager: EagerFlags | undefined): CompiledFile[] {
  const files: CompiledFile[] = [];
  for (const name of readdirSync(directory)) {
    const bytes = readFileSync(join(directory, name));
    const code = bytes.subarray(HEAD_BYTES);
    // What is not laid out as expected is of a Node to come, and must not be touched.
    const known =
      bytes.readUInt32LE(CODE_BYTES_AT) === code.length && bytes.readUInt32LE(CODE_CHECKSUM_AT) === crc32(code);
    if ((eager !== undefined && !known) || bytes.length > FILE_BYTES_MAX) {
      continue;
    }
    if (eager !== undefined) {
      eager.stamp(code);
      bytes.writeUInt32LE(crc32(code), CODE_CHECKSUM_AT);
    }
    files.push({ path: join(path, name), bytes });
  }
  return files;
}
