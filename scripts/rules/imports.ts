import { posix } from 'node:path';
import { type SourceFile, withoutComments } from './source-files.js';

export interface Import {
  readonly specifier: string;
  /** `import type` and `export type`: nothing of it is left when the program runs. */
  readonly typeOnly: boolean;
}

/** TypeScript 7 has no API to parse with; import declarations are regular enough. */
const DECLARATION =
  /(?:^|[;}\s])(?:import|export)\s*(?<type>type\s)?(?:\s*[\w*{][^'";]*?\sfrom\s*)?\(?\s*(['"])(?<specifier>[^'"\n]+)\2/g;

/** Every static import, dynamic import and re-export. */
export function importsOf(file: SourceFile): Import[] {
  return [...withoutComments(file.text).matchAll(DECLARATION)].map(({ groups }) => ({
    specifier: groups?.specifier ?? '',
    typeOnly: groups?.type !== undefined,
  }));
}

/** Where a relative import leads, as a path from the repository's root; undefined for a package. */
export function importTarget(file: SourceFile, specifier: string): string | undefined {
  if (!specifier.startsWith('.')) return undefined;
  return posix.normalize(posix.join(posix.dirname(file.path), specifier));
}
