import { readFile } from 'node:fs/promises';
import { FUNCTION_NAME } from '@lambda-fleet/common/limits';
import { isRuntimeName, RUNTIME_NAMES, runtimeFamily } from '@lambda-fleet/common/runtime-names';
import { type Node, type ParseError, parseTree, printParseErrorCode } from 'jsonc-parser';
import { usageError } from '../cli-error.js';

/** The API's *definition* of a function; what is absent keeps its value or gets the server's default. */
export interface Definition {
  readonly name?: string;
  readonly runtime?: string;
  readonly handler?: string;
  readonly memoryMb?: number;
  readonly cpus?: number;
  readonly timeoutMs?: number;
  readonly initTimeoutMs?: number;
  readonly keepAliveMs?: number;
  readonly environment?: Readonly<Record<string, string>>;
  readonly route?: string;
  readonly httpAuth?: 'key' | 'public';
  readonly isolation?: 'auto' | 'gvisor' | 'runc';
  readonly network?: 'none' | 'egress';
  readonly egressHosts?: readonly string[];
  readonly concurrency?: number;
  readonly keepRunning?: boolean;
  readonly provisionedConcurrency?: number;
  readonly keepPayloads?: boolean;
  /** Of a container image; what is absent is as the image says. */
  readonly image?: {
    readonly port?: number | null;
    readonly entrypoint?: readonly string[];
    readonly command?: readonly string[];
    readonly workingDirectory?: string;
  };
}

interface Field {
  /** Completes the sentence "`name` must be …". */
  readonly mustBe: string;
  /** `runtime` is what the file says of it. */
  readonly accepts: (value: unknown, runtime: unknown) => boolean;
}

const text = (mustBe: string, pattern: RegExp): Field => ({
  mustBe,
  accepts: (value) => typeof value === 'string' && pattern.test(value),
});

const number = (mustBe: string, min: number, max: number, whole = true): Field => ({
  mustBe: `${mustBe}, ${min} to ${max}`,
  accepts: (value) => typeof value === 'number' && value >= min && value <= max && (!whole || Number.isInteger(value)),
});

const oneOf = (values: readonly string[]): Field => ({
  mustBe: `one of ${values.map((value) => `"${value}"`).join(', ')}`,
  accepts: (value) => typeof value === 'string' && values.includes(value),
});

const isProgram = (handler: string, runtime: unknown): boolean =>
  runtime === undefined
    ? handler === 'bootstrap'
    : typeof runtime === 'string' && isRuntimeName(runtime) && runtimeFamily(runtime) === 'provided';

/** The ranges are the server's, which has the last word; checked here because here the line is known. */
const FIELDS: Readonly<Record<keyof Definition, Field>> = {
  name: text('1 to 64 letters, digits, "-" or "_"', FUNCTION_NAME),
  runtime: oneOf(RUNTIME_NAMES),
  handler: {
    mustBe: 'a file and an export, as in "index.handler"',
    // A program of its own makes of the name what it likes.
    accepts: (value, runtime) =>
      typeof value === 'string' && (isProgram(value, runtime) ? /^\S+$/ : /^[^\s.][^\s]*\.[^\s.]+$/).test(value),
  },
  memoryMb: number('a whole number of megabytes', 64, 10_240),
  cpus: number('a number of processors', 0.1, 16, false),
  timeoutMs: number('a whole number of milliseconds', 100, 900_000),
  initTimeoutMs: number('a whole number of milliseconds', 100, 900_000),
  keepAliveMs: number('a whole number of milliseconds', 0, 86_400_000),
  environment: {
    mustBe: 'an object whose values are strings',
    accepts: (value) =>
      typeof value === 'object' &&
      value !== null &&
      !Array.isArray(value) &&
      Object.values(value).every((entry) => typeof entry === 'string'),
  },
  route: text('1 to 64 letters, digits, "-" or "_"', FUNCTION_NAME),
  httpAuth: oneOf(['key', 'public']),
  isolation: oneOf(['auto', 'gvisor', 'runc']),
  network: oneOf(['none', 'egress']),
  egressHosts: {
    mustBe: 'a list of host names, as in ["api.example.com"]',
    accepts: (value) => Array.isArray(value) && value.every((host) => typeof host === 'string'),
  },
  concurrency: number('a whole number of invocations', 1, 1_000),
  keepRunning: { mustBe: 'true or false', accepts: (value) => typeof value === 'boolean' },
  provisionedConcurrency: number('a whole number of sandboxes', 0, 1_000),
  keepPayloads: { mustBe: 'true or false', accepts: (value) => typeof value === 'boolean' },
  image: {
    mustBe: 'an object, as in {"port": 8080, "entrypoint": [], "command": [], "workingDirectory": "/"}',
    accepts: isImageSettings,
  },
};

function isImageSettings(value: unknown): boolean {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
  const isTexts = (list: unknown) => Array.isArray(list) && list.every((item) => typeof item === 'string');
  const accepted: Readonly<Record<string, (setting: unknown) => boolean>> = {
    port: (port) => port === null || (Number.isInteger(port) && Number(port) >= 1 && Number(port) <= 65_535),
    entrypoint: isTexts,
    command: isTexts,
    workingDirectory: (path) => typeof path === 'string' && path.startsWith('/'),
  };
  return Object.entries(value).every(([name, setting]) => accepted[name]?.(setting) === true);
}

/** Reads `lambda.json` (JSON with comments and trailing commas). Undefined when there is none. */
export async function readLambdaJson(file: string): Promise<Definition | undefined> {
  let source: string;
  try {
    source = await readFile(file, 'utf8');
  } catch (err) {
    if ((err as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw err;
  }
  return parseLambdaJson(source, file);
}

/** Every message starts with `file:line`, so that editors and people find the place. */
export function parseLambdaJson(source: string, file: string): Definition {
  const at = (offset: number) => `${file}:${source.slice(0, offset).split('\n').length}`;
  const errors: ParseError[] = [];
  const root = parseTree(source.replace(/^\uFEFF/, ' '), errors, { allowTrailingComma: true });
  const [syntax] = errors;
  if (syntax !== undefined) {
    const column = syntax.offset - source.lastIndexOf('\n', syntax.offset - 1);
    throw usageError(`${at(syntax.offset)}: not valid JSON: ${syntaxText(syntax)} at column ${column}.`);
  }
  if (root?.type !== 'object') throw usageError(`${at(0)}: the file must hold one object.`);

  const definition: Record<string, unknown> = {};
  const properties = root.children ?? [];
  const runtime = properties.find(({ children }) => children?.[0]?.value === 'runtime')?.children?.[1]
    ?.value as unknown;
  for (const property of properties) {
    const [key, node] = property.children ?? [];
    if (key === undefined || node === undefined) continue;
    const name = String(key.value);
    if (name === '$schema') continue;
    if (!isFieldName(name)) throw usageError(`${at(key.offset)}: unknown field "${name}".${suggestion(name)}`);
    if (Object.hasOwn(definition, name)) throw usageError(`${at(key.offset)}: "${name}" is there twice.`);
    const value = plainValue(node);
    if (!FIELDS[name].accepts(value, runtime)) {
      throw usageError(`${at(node.offset)}: "${name}" must be ${FIELDS[name].mustBe}.`);
    }
    definition[name] = value;
  }
  return definition;
}

function isFieldName(name: string): name is keyof Definition {
  return Object.hasOwn(FIELDS, name);
}

function plainValue(node: Node): unknown {
  if (node.type === 'array') return (node.children ?? []).map(plainValue);
  if (node.type !== 'object') return node.value as unknown;
  // fromEntries defines properties, so that a key named __proto__ stays a key.
  return Object.fromEntries(
    (node.children ?? []).map(({ children: [key, value] = [] }) => [
      String(key?.value),
      value === undefined ? undefined : plainValue(value),
    ]),
  );
}

/** `PropertyNameExpected` → `property name expected`. */
function syntaxText(error: ParseError): string {
  return printParseErrorCode(error.error)
    .replaceAll(/(?<!^)([A-Z])/g, ' $1')
    .toLowerCase();
}

/** Names that people bring from elsewhere. */
const MEANT: Readonly<Record<string, keyof Definition>> = {
  memory: 'memoryMb',
  memorysize: 'memoryMb',
  cpu: 'cpus',
  timeout: 'timeoutMs',
  inittimeout: 'initTimeoutMs',
  keepalive: 'keepAliveMs',
  env: 'environment',
  environmentvariables: 'environment',
  auth: 'httpAuth',
  functionname: 'name',
};

function suggestion(name: string): string {
  const plain = name.toLowerCase().replaceAll(/[^a-z]/g, '');
  const meant = MEANT[plain] ?? Object.keys(FIELDS).find((field) => field.toLowerCase() === plain);
  return meant === undefined ? ` Known fields: ${Object.keys(FIELDS).join(', ')}.` : ` Did you mean "${meant}"?`;
}
