import { posix } from 'node:path';
import { type SourceFile, withoutComments } from './source-files.js';

/** TypeScript 7 has no API to parse with; import declarations are regular enough. */
const SPECIFIER = /(?:^|[;}\s])(?:import|export)\s*(?:[\w*{][^'";]*?\sfrom\s*)?\(?\s*(['"])([^'"\n]+)\1/g;

/** Module specifiers of every static import, dynamic import and re-export. */
export function importsOf(file: SourceFile): string[] {
  return [...withoutComments(file.text).matchAll(SPECIFIER)].map((match) => match[2] ?? '');
}

/** Where a relative import leads, as a path from the repository's root; undefined for a package. */
export function importTarget(file: SourceFile, specifier: string): string | undefined {
  if (!specifier.startsWith('.')) return undefined;
  return posix.normalize(posix.join(posix.dirname(file.path), specifier));
}
