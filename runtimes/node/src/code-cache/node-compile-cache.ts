import { existsSync } from 'node:fs';
import Module from 'node:module';
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

/** Folder of Node's files in a code cache. */
export const NODE_FOLDER = 'node';

/**
 * Lets the module loaders use what the platform compiled. A file of another Node, of other flags or of other source is
 * passed over by Node, and so is one whose checksum is wrong. Without files it does nothing, because Node would then collect
 * what it compiles, for a folder that it cannot write to.
 */
export function useCodeCache(codeCache: string | undefined): void {
  if (compileCache === undefined || codeCache === undefined) {
    return;
  }
  const folder = join(codeCache, NODE_FOLDER);
  if (existsSync(folder)) {
    compileCache.enableCompileCache(folder);
  }
}
