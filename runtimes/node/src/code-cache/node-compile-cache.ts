import { existsSync, mkdtempSync, readdirSync, realpathSync, symlinkSync } from 'node:fs';
import Module from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** What Node has since 22.10, and its types for Node 20 do not. */
interface CompileCacheApi {
  enableCompileCache(directory: string): void;
  /** Where the files of this Node with these flags are: a folder in that directory. */
  getCompileCacheDir(): string | undefined;
  flushCompileCache(): void;
}

/** Node's own compile cache, which serves CommonJS and ES modules; undefined where it has none. */
export const compileCache: CompileCacheApi | undefined =
  'flushCompileCache' in Module ? (Module as unknown as CompileCacheApi) : undefined;

/**
 * Folder of Node's files in a code cache. They are named by the paths of the modules, so that those of another task root would be
 * of no use, and dear: what Node does not find, it makes.
 */
export function nodeFolder(taskRoot: string): string {
  let hash = 0;
  for (const byte of Buffer.from(realpathSync(taskRoot))) {
    hash = (Math.imul(hash, 31) + byte) >>> 0;
  }
  return join('node', hash.toString(16));
}

/**
 * Lets the module loaders use what the platform compiled. A file of another Node, of other flags or of other source is
 * passed over by Node, and so is one whose checksum is wrong.
 */
export function useCodeCache(codeCache: string | undefined, taskRoot: string): void {
  if (compileCache === undefined || codeCache === undefined) {
    return;
  }
  try {
    const folder = join(codeCache, nodeFolder(taskRoot));
    if (existsSync(folder)) {
      compileCache.enableCompileCache(asOwn(folder));
    }
  } catch {
    // Then code is loaded as it is, and whatever is wrong with its folder comes to light.
  }
}

/**
 * Node ends the name of its folder with the user's number, and takes no other's. Each sandbox has a user of its own, so the
 * folder that another one filled is named anew: by links, because the cache itself is read-only.
 */
function asOwn(folder: string): string {
  const uid = process.getuid?.();
  const foreign = readdirSync(folder).filter((name) => !name.endsWith(`-${uid}`));
  if (uid === undefined || foreign.length === 0) {
    return folder;
  }
  const own = mkdtempSync(join(tmpdir(), '.code-cache-'));
  for (const name of foreign) {
    symlinkSync(join(folder, name), join(own, name.replace(/-\d+$/, `-${uid}`)));
  }
  return own;
}
