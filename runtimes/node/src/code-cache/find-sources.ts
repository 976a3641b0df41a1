import { type Dirent, readdirSync, readFileSync, realpathSync } from 'node:fs';
import { createRequire } from 'node:module';
import { isAbsolute, join, sep } from 'node:path';

export interface Source {
  /** Its real path, which is what Node's loaders name it by. */
  readonly file: string;
  readonly text: string;
}

export interface SourceLimits {
  readonly filesMax: number;
  readonly bytesMax: number;
}

const JAVASCRIPT = /\.[cm]?js$/;
/** Of dependencies, most files are never loaded. */
const DEPENDENCIES = 'node_modules';
/** `require('x')`, `import('x')`, `import 'x'` and `… from 'x'`; what is none of these and looks so does no harm. */
const SPECIFIER = /\b(?:require|import|from)\b\s*\(?\s*(['"])([^'"\n]{1,200})\1/g;

/**
 * JavaScript that the code below `root` may load: all of its own, then of its dependencies what that names, what these name,
 * and so on.
 */
export function* findSources(root: string, { filesMax, bytesMax }: SourceLimits): Generator<Source> {
  const inside = realpathSync(root);
  const queue = ownFiles(inside, filesMax);
  const seen = new Set(queue);
  let bytes = 0;
  for (const file of queue) {
    const text = readText(file);
    bytes += text?.length ?? 0;
    if (text === undefined || bytes > bytesMax) {
      continue;
    }
    yield { file, text };
    for (const named of namedBy(file, text)) {
      if (queue.length < filesMax && named.startsWith(inside + sep) && !seen.has(named)) {
        seen.add(named);
        // The loop comes to it.
        queue.push(named);
      }
    }
  }
}

/** The nearest first. */
function ownFiles(root: string, filesMax: number): string[] {
  const files: string[] = [];
  const folders = [root];
  for (const folder of folders) {
    for (const entry of entriesOf(folder)) {
      if (entry.isDirectory() && entry.name !== DEPENDENCIES && folders.length < filesMax) {
        folders.push(join(folder, entry.name));
      } else if (entry.isFile() && JAVASCRIPT.test(entry.name) && files.length < filesMax) {
        files.push(join(folder, entry.name));
      }
    }
  }
  return files;
}

function entriesOf(folder: string): Dirent[] {
  try {
    return readdirSync(folder, { withFileTypes: true });
  } catch {
    return [];
  }
}

function readText(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return undefined;
  }
}

function* namedBy(file: string, text: string): Generator<string> {
  const { resolve } = createRequire(file);
  for (const [, , specifier = ''] of text.matchAll(SPECIFIER)) {
    try {
      const named = resolve(specifier);
      if (isAbsolute(named) && JAVASCRIPT.test(named)) {
        yield named;
      }
    } catch {
      // Not there, or no specifier at all.
    }
  }
}
