import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';

/** A text file of the repository; `path` is relative to its root, with `/`. */
export interface SourceFile {
  readonly path: string;
  readonly text: string;
}

export const REPOSITORY_ROOT = resolve(import.meta.dirname, '../..');

/** What is made, not written: what `.gitignore` names, and git's own. */
const NOT_WRITTEN = /^(\.git|node_modules|dist|\.lambda|__pycache__|coverage)$|\.(log|tsbuildinfo)$/;
const BINARY = /\.(png|ico|jpg|woff2|zip|gz|tgz|bin|frames)$/;

/** Every text file that somebody wrote, generated code included. Read from disk, because an archive has no git. */
export function readSourceFiles(folder = REPOSITORY_ROOT): SourceFile[] {
  return readdirSync(folder)
    .filter((name) => !NOT_WRITTEN.test(name))
    .flatMap((name) => {
      const path = join(folder, name);
      const kind = statSync(path);
      if (kind.isDirectory()) return readSourceFiles(path);
      if (!kind.isFile() || BINARY.test(name)) return [];
      return [{ path: relative(REPOSITORY_ROOT, path), text: readFileSync(path, 'utf8') }];
    });
}

export function isTest(path: string): boolean {
  return /\.(test|contract)\.ts$|(^|\/)test[-_][^/]*$|^e2e\//.test(path);
}

/** The text without comments, so that a rule does not fire on what is only mentioned. */
export function withoutComments(text: string): string {
  return text.replace(/\/\*[\s\S]*?\*\//g, '').replace(/(^|\s)\/\/.*$/gm, '$1');
}
