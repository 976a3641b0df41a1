import { isRuntimeName, type RuntimeFamily, runtimeFamily } from '@lambda-fleet/common/runtime-names';
import { usageError } from '../cli-error.js';

export interface Entry {
  readonly runtime: string;
  readonly handler: string;
}

/** In this order within a family. The export is each ecosystem's usual one. */
const ENTRY_FILES: readonly (readonly [file: string, family: RuntimeFamily, handler: string])[] = [
  ['index.mjs', 'nodejs', 'index.handler'],
  ['index.js', 'nodejs', 'index.handler'],
  ['index.cjs', 'nodejs', 'index.handler'],
  ['handler.mjs', 'nodejs', 'handler.handler'],
  ['handler.js', 'nodejs', 'handler.handler'],
  ['handler.cjs', 'nodejs', 'handler.handler'],
  ['main.py', 'python', 'main.handler'],
  ['handler.py', 'python', 'handler.handler'],
  ['lambda_function.py', 'python', 'lambda_function.lambda_handler'],
  ['bootstrap', 'provided', 'bootstrap'],
];

const EXTENSIONS: Readonly<Record<RuntimeFamily, readonly string[]>> = {
  nodejs: ['.mjs', '.js', '.cjs'],
  python: ['.py'],
  provided: [],
  image: [],
};

/**
 * Says how to run the code from the names of its files and from what is already known.
 *
 * @param files paths with `/`, relative to the code's root
 * @param where the folder or archive, for messages
 */
export function guessEntry(files: ReadonlySet<string>, known: Partial<Entry>, where: string): Entry {
  const { runtime, handler } = known;
  if (runtime !== undefined && handler !== undefined) return { runtime, handler };

  if (handler !== undefined) {
    const module = handler.slice(0, Math.max(0, handler.lastIndexOf('.')));
    for (const family of ['nodejs', 'python'] as const) {
      const isThere = (path: string) => EXTENSIONS[family].some((extension) => files.has(path + extension));
      // Node's handlers may have dots in the export (`index.api.handler`): the file is then a shorter prefix.
      for (let path = module; path !== ''; path = path.slice(0, Math.max(0, path.lastIndexOf('.')))) {
        if (isThere(path)) return { runtime: family, handler };
      }
    }
    // A program makes of the handler's name what it likes.
    if (files.has('bootstrap')) return { runtime: 'provided', handler };
    throw usageError(
      `${where} has no file for the handler "${handler}" (${module}.mjs, ${module}.js, ${module}.py …).`,
      'Name the file and its export: --handler <file>.<export>, and the language: --runtime.',
    );
  }

  const family = runtime !== undefined && isRuntimeName(runtime) ? runtimeFamily(runtime) : undefined;
  const found = ENTRY_FILES.filter(([file, of]) => files.has(file) && (family === undefined || of === family));
  const [first] = found;
  if (first === undefined) {
    const looked = ENTRY_FILES.filter(([, of]) => family === undefined || of === family).map(([file]) => file);
    throw usageError(
      `${where} has none of the files that a function usually starts from: ${looked.join(', ')}.`,
      'Name the file and its export: --handler <file>.<export>.',
    );
  }
  const other = found.find(([, of]) => of !== first[1]);
  if (other !== undefined) {
    throw usageError(
      `${where} has both ${first[0]} and ${other[0]}.`,
      `Choose: --runtime ${first[1]} or --runtime ${other[1]}.`,
    );
  }
  return { runtime: runtime ?? first[1], handler: first[2] };
}
