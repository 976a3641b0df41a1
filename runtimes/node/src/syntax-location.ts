import { readFileSync, realpathSync, statSync } from 'node:fs';
import { dirname, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Location } from './function-error.js';

/** Modules searched for the one that does not parse. */
const MODULES_MAX = 500;

/** `import … from './x.js'`, `export … from`, `import './x.js'` and `import('./x.js')`: relative ones only. */
const RELATIVE_IMPORT = /\b(?:import|from)\s*\(?\s*(['"])(\.{1,2}\/[^'"\n]+)\1/g;

interface Position {
  readonly line: number;
  readonly column: number;
}

/**
 * Where user code does not parse, or undefined when `error` is a SyntaxError of
 * another kind: thrown by the code itself, by `JSON.parse` or by `eval`.
 *
 * V8 keeps the position with the error and tells it to its inspector only. The file
 * is in the first line of the stack, except for ES modules, whose stack names no
 * user file at all: there the static imports are followed from the entry, and each file is
 * parsed alone until one fails at the same position.
 */
export async function locateSyntaxError(
  error: SyntaxError,
  entry: string,
  taskRoot: string,
): Promise<Location | undefined> {
  const stack = String(error.stack);
  const position = await syntaxPosition(error);
  const header = /^(file:\/\/\/.*|\/.*):(\d+)\n/.exec(stack);
  if (header !== null) {
    const [, where = '', line] = header;
    const file = where.startsWith('file:') ? fileURLToPath(where) : where;
    if (!isFile(file)) {
      // Code that the code itself compiled under a name it made up.
      return undefined;
    }
    return located(file, taskRoot, position ?? { line: Number(line), column: 1 });
  }
  const isModuleParse = /^SyntaxError: .*\n {4}at (?:async )?\S* ?\(?node:internal\/modules\//.test(stack);
  if (!isModuleParse || position === undefined) {
    return undefined;
  }
  const file = await findUnparsable(entry, position);
  return file === undefined ? undefined : located(file, taskRoot, position);
}

function located(file: string, taskRoot: string, position: Position): Location {
  // Node names files by their real path, which differs where the task root lies behind a symbolic link.
  const inside = relative(realpathSync(taskRoot), realpathSync(file));
  return { file: inside.startsWith('..') ? file : inside, ...position };
}

/** Where an error came from. Asks V8's inspector, in this process. */
export async function syntaxPosition(error: SyntaxError): Promise<Position | undefined> {
  const key = Symbol.for('lambda-fleet.syntax-error');
  let position: Position | undefined;
  try {
    const { Session } = await import('node:inspector');
    const session = new Session();
    session.connect();
    Reflect.set(globalThis, key, error);
    session.post(
      'Runtime.evaluate',
      { expression: `globalThis[Symbol.for(${JSON.stringify(Symbol.keyFor(key))})]` },
      (_, { result }) => {
        session.post('Runtime.getExceptionDetails', { errorObjectId: result.objectId }, (failed, answer) => {
          const { exceptionDetails: details } = answer as {
            exceptionDetails: { lineNumber: number; columnNumber: number };
          };
          if (failed === null && details.lineNumber >= 0) {
            position = { line: details.lineNumber + 1, column: details.columnNumber + 1 };
          }
        });
      },
    );
    session.disconnect();
  } catch {
    // A Node without an inspector, or one that does not know the question: the caller does without.
  } finally {
    Reflect.deleteProperty(globalThis, key);
  }
  return position;
}

async function findUnparsable(entry: string, position: Position): Promise<string | undefined> {
  const queue = [entry];
  const seen = new Set(queue);
  for (const file of queue) {
    const source = readSource(file);
    if (source === undefined) {
      continue;
    }
    const failed = await parseAlone(source);
    if (failed?.line === position.line && failed.column === position.column) {
      return file;
    }
    for (const [, , specifier = ''] of source.matchAll(RELATIVE_IMPORT)) {
      const imported = resolve(dirname(file), specifier);
      if (!seen.has(imported) && seen.size < MODULES_MAX) {
        seen.add(imported);
        queue.push(imported);
      }
    }
  }
  return undefined;
}

function readSource(file: string): string | undefined {
  return isFile(file) ? readFileSync(file, 'utf8') : undefined;
}

function isFile(file: string): boolean {
  return statSync(file, { throwIfNoEntry: false })?.isFile() === true;
}

/** Stands before the source and not after it: behind code that ends too early it would move the error. */
const UNRESOLVABLE_IMPORT = "import 'lambda-fleet-parse-only:';";

/** Where `source` does not parse as an ES module. It is never run: the import before it cannot be resolved. */
async function parseAlone(source: string): Promise<Position | undefined> {
  // A first line for the shell is only allowed at the very start.
  const code = UNRESOLVABLE_IMPORT + source.replace(/^#!/, '//');
  try {
    await import(`data:text/javascript;base64,${Buffer.from(code).toString('base64')}`);
  } catch (thrown) {
    const found = thrown instanceof SyntaxError ? await syntaxPosition(thrown) : undefined;
    if (found?.line !== 1) return found;
    return { line: 1, column: found.column - UNRESOLVABLE_IMPORT.length };
  }
  return undefined;
}
