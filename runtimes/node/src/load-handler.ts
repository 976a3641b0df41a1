import { readdirSync, readFileSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { Fault } from './function-error.js';
import { type HandlerName, parseHandlerName } from './handler-name.js';
import { parseJson } from './intrinsics.js';
import { locateSyntaxError } from './syntax-location.js';

export type Handler = (event: unknown, context: unknown, callback: unknown) => unknown;

const EXTENSIONS = ['.js', '.mjs', '.cjs'];

const MISSING_MODULE_CODES = ['MODULE_NOT_FOUND', 'ERR_MODULE_NOT_FOUND', 'ERR_PACKAGE_PATH_NOT_EXPORTED'];
/** What `require` says of an ES module that only `import()` can load. */
const NEEDS_IMPORT_CODES = ['ERR_REQUIRE_ESM', 'ERR_REQUIRE_ASYNC_MODULE'];

/**
 * Loads the module that `name` means and returns its handler.
 *
 * @throws Fault where PROTOCOL.md names one under INIT, or what the module system or the code threw
 */
export async function loadHandler(name: string, taskRoot: string): Promise<Handler> {
  const handlerName = parseHandlerName(name);
  const file = findFile(handlerName, taskRoot);
  return findExport(await loadModule(file, taskRoot), handlerName);
}

/**
 * What loading `name` threw, as a Fault where a module is missing or does not parse.
 * Anything else comes back as it is: the code ran and threw it.
 */
export async function explainLoadError(thrown: unknown, name: string, taskRoot: string): Promise<unknown> {
  if (!(thrown instanceof Error) || thrown instanceof Fault) {
    return thrown;
  }
  if (hasCode(thrown, MISSING_MODULE_CODES)) {
    return new Fault('Runtime.ImportModuleError', thrown.message);
  }
  if (!(thrown instanceof SyntaxError)) {
    return thrown;
  }
  const location = await locateSyntaxError(thrown, findFile(parseHandlerName(name), taskRoot), taskRoot);
  if (location === undefined) {
    return thrown;
  }
  const { file: where, line, column } = location;
  return new Fault('Runtime.UserCodeSyntaxError', `${thrown.message} (${where}:${line}:${column})`, location);
}

function findFile({ module }: HandlerName, taskRoot: string): string {
  const base = join(taskRoot, module);
  for (const extension of EXTENSIONS) {
    if (statSync(base + extension, { throwIfNoEntry: false })?.isFile()) {
      return base + extension;
    }
  }
  throw new Fault(
    'Runtime.ImportModuleError',
    `Cannot find module '${module}': the function's code has no ${module}${EXTENSIONS.join(` or ${module}`)}. ${listing(taskRoot)}`,
  );
}

function listing(taskRoot: string): string {
  try {
    const names = readdirSync(taskRoot).sort();
    return names.length === 0
      ? 'It is empty.'
      : `It holds ${names.slice(0, 10).join(', ')}${names.length > 10 ? ', …' : ''}.`;
  } catch {
    // The message is complete without it.
    return '';
  }
}

async function loadModule(file: string, taskRoot: string): Promise<unknown> {
  if (file.endsWith('.mjs') || (file.endsWith('.js') && packageType(file, taskRoot) === 'module')) {
    return await import(pathToFileURL(file).href);
  }
  try {
    return createRequire(file)(file);
  } catch (thrown) {
    if (hasCode(thrown, NEEDS_IMPORT_CODES)) {
      return await import(pathToFileURL(file).href);
    }
    throw thrown;
  }
}

/** `type` of the nearest package.json, looking no higher than the task root. */
function packageType(file: string, taskRoot: string): unknown {
  for (let folder = dirname(file); folder.startsWith(taskRoot); folder = dirname(folder)) {
    let text: string;
    try {
      text = readFileSync(join(folder, 'package.json'), 'utf8');
    } catch {
      // None here: the next folder up decides.
      continue;
    }
    try {
      return (parseJson(text) as { type?: unknown } | null)?.type;
    } catch (thrown) {
      throw new Fault('Runtime.ImportModuleError', `package.json is not JSON: ${(thrown as Error).message}`);
    }
  }
  return undefined;
}

function findExport(exported: unknown, { module, exportPath }: HandlerName): Handler {
  let owner: unknown;
  let value = exported;
  for (const name of exportPath) {
    owner = value;
    value = isContainer(owner) ? Reflect.get(owner, name) : undefined;
  }
  const name = exportPath.join('.');
  if (typeof value === 'function') {
    // Methods keep their receiver; `length` tells a handler that takes a callback.
    return exportPath.length === 1 ? (value as Handler) : (value as Handler).bind(owner);
  }
  throw new Fault(
    'Runtime.HandlerNotFound',
    value === undefined
      ? `${module} has no export named "${name}". ${exportListing(exported)}`
      : `The export "${name}" of ${module} is not a function but of type ${typeof value}. ${exportListing(exported)}`,
  );
}

function exportListing(exported: unknown): string {
  const names = isContainer(exported) ? Object.keys(exported) : [];
  return names.length === 0 ? 'It exports nothing.' : `It exports ${names.slice(0, 20).join(', ')}.`;
}

function isContainer(value: unknown): value is object {
  return (typeof value === 'object' && value !== null) || typeof value === 'function';
}

function hasCode(thrown: unknown, codes: readonly string[]): boolean {
  return thrown instanceof Error && codes.includes(String((thrown as NodeJS.ErrnoException).code));
}
