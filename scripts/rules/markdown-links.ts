import { existsSync } from 'node:fs';
import { posix, resolve } from 'node:path';
import { REPOSITORY_ROOT, type SourceFile } from './source-files.js';

const LINK = /\]\(\s*<?([^)\s>]+)>?[^)]*\)/g;
const ELSEWHERE = /^([a-z][a-z0-9+.-]*:|#)/i;

/** Links to files of this repository that do not exist. */
export function brokenLinks(files: readonly SourceFile[]): string[] {
  return files
    .filter(({ path }) => path.endsWith('.md'))
    .flatMap(({ path, text }) => {
      const prose = text.replace(/^```[\s\S]*?^```/gm, '').replace(/`[^`\n]*`/g, '');
      return [...prose.matchAll(LINK)]
        .map((match) => match[1] ?? '')
        .filter((link) => !ELSEWHERE.test(link))
        .filter(
          (link) => !existsSync(resolve(REPOSITORY_ROOT, posix.dirname(path), decodeURI(link.split('#')[0] ?? ''))),
        )
        .map((link) => `${path} links to ${link}, which does not exist`);
    });
}
