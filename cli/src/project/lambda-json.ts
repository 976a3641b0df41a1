import { readFile } from 'node:fs/promises';
import { FUNCTION_NAME } from '@lambda-fleet/common/limits';
import { isRuntimeName, RUNTIME_NAMES, runtimeFamily } from '@lambda-fleet/common/runtime-names';
import { type Node, type ParseError, parseTree, printParseErrorCode } from 'jsonc-parser';
import { usageError } from '../cli-error.js';
import {
  AGE_MS_MAX,
  AGE_MS_MIN,
  type AsyncSettings,
  isDestination,
  isRetryDelays,
  RETRIES_MAX,
} from './async-settings.js';
import { type ConcurrencySettings, isLimit, LIMIT_MAX } from './concurrency-settings.js';

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
  readonly labels?: Readonly<Record<string, string>>;
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

/** All that the file may say. */
export interface LambdaJson extends Definition {
  /** Of the function and not of its versions: another request. */
  readonly async?: Partial<AsyncSettings>;
  /** The same. */
  readonly limits?: Partial<ConcurrencySettings>;
}

interface Field {
  /** Completes the sentence "`name` must be …". */
  readonly mustBe: string;
  /** `runtime` is what the file says of it. */
  readonly accepts: (value: unknown, runtime: unknown) => boolean;
  /** Of an object: what may be in it. */
  readonly fields?: Fields;
}

type Fields = Readonly<Record<string, Field>>;

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

const DESTINATION: Field = {
  mustBe: '{"function": "<name>"}, {"url": "https://…"} or null',
  accepts: isDestination,
};

const ASYNC_FIELDS: Readonly<Record<keyof AsyncSettings, Field>> = {
  retries: number('a whole number', 0, RETRIES_MAX),
  retryDelaysMs: {
    mustBe: `a list of 1 to ${RETRIES_MAX} whole numbers of milliseconds, each at most an hour`,
    accepts: isRetryDelays,
  },
  maxAgeMs: number('a whole number of milliseconds', AGE_MS_MIN, AGE_MS_MAX),
  onSuccess: DESTINATION,
  onFailure: DESTINATION,
};

const LIMIT_FIELDS: Readonly<Record<keyof ConcurrencySettings, Field>> = {
  reserved: {
    mustBe: `a whole number of invocations, 0 to ${LIMIT_MAX}, or null`,
    accepts: (value) => isLimit(value, 0),
  },
  maximum: {
    mustBe: `a whole number of invocations, 1 to ${LIMIT_MAX}, or null`,
    accepts: (value) => isLimit(value, 1),
  },
};

const isProgram = (handler: string, runtime: unknown): boolean =>
  runtime === undefined
    ? handler === 'bootstrap'
    : typeof runtime === 'string' && isRuntimeName(runtime) && runtimeFamily(runtime) === 'provided';

/** The ranges are the server's, which has the last word; checked here because here the line is known. */
const FIELDS: Readonly<Record<keyof LambdaJson, Field>> = {
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
  labels: {
    mustBe: 'an object whose values are strings, as in {"zone": "a"}',
    accepts: (value) =>
      typeof value === 'object' &&
      value !== null &&
      !Array.isArray(value) &&
      Object.values(value).every((entry) => typeof entry === 'string'),
  },
  concurrency: number('a whole number of invocations', 1, 1_000),
  keepRunning: { mustBe: 'true or false', accepts: (value) => typeof value === 'boolean' },
  provisionedConcurrency: number('a whole number of sandboxes', 0, 1_000),
  keepPayloads: { mustBe: 'true or false', accepts: (value) => typeof value === 'boolean' },
  image: {
    mustBe: 'an object, as in {"port": 8080, "entrypoint": [], "command": [], "workingDirectory": "/"}',
    accepts: isImageSettings,
  },
  async: {
    mustBe: 'an object, as in {"retries": 1, "onFailure": {"function": "alert"}}',
    accepts: (value) => typeof value === 'object' && value !== null && !Array.isArray(value),
    fields: ASYNC_FIELDS,
  },
  limits: {
    mustBe: 'an object, as in {"reserved": 10}',
    accepts: (value) => typeof value === 'object' && value !== null && !Array.isArray(value),
    fields: LIMIT_FIELDS,
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
export async function readLambdaJson(file: string): Promise<LambdaJson | undefined> {
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
export function parseLambdaJson(source: string, file: string): LambdaJson {
  const at = (offset: number) => `${file}:${source.slice(0, offset).split('\n').length}`;
  const errors: ParseError[] = [];
  const root = parseTree(source.replace(/^\uFEFF/, ' '), errors, { allowTrailingComma: true });
  const [syntax] = errors;
  if (syntax !== undefined) {
    const column = syntax.offset - source.lastIndexOf('\n', syntax.offset - 1);
    throw usageError(`${at(syntax.offset)}: not valid JSON: ${syntaxText(syntax)} at column ${column}.`);
  }
  if (root?.type !== 'object') throw usageError(`${at(0)}: the file must hold one object.`);

  const runtime = root.children?.find(({ children }) => children?.[0]?.value === 'runtime')?.children?.[1]
    ?.value as unknown;
  checkFields(root, FIELDS, '', { at, runtime });
  const { $schema: _, ...definition } = plainValue(root) as Record<string, unknown>;
  return definition;
}

interface Place {
  readonly at: (offset: number) => string;
  readonly runtime: unknown;
}

/** @param inside of which field, with a dot behind it, for messages */
function checkFields(object: Node, fields: Fields, inside: string, place: Place): void {
  const { at, runtime } = place;
  const seen = new Set<string>();
  for (const { children: [key, node] = [] } of object.children ?? []) {
    if (key === undefined || node === undefined) continue;
    const name = String(key.value);
    if (name === '$schema' && inside === '') continue;
    const field = Object.hasOwn(fields, name) ? fields[name] : undefined;
    if (field === undefined) {
      throw usageError(`${at(key.offset)}: unknown field "${inside}${name}".${suggestion(name, fields)}`);
    }
    if (seen.has(name)) throw usageError(`${at(key.offset)}: "${inside}${name}" is there twice.`);
    seen.add(name);
    if (!field.accepts(plainValue(node), runtime)) {
      throw usageError(`${at(node.offset)}: "${inside}${name}" must be ${field.mustBe}.`);
    }
    if (field.fields !== undefined) checkFields(node, field.fields, `${inside}${name}.`, place);
  }
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
const MEANT: Readonly<Record<string, keyof Definition | keyof AsyncSettings>> = {
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
  retrydelays: 'retryDelaysMs',
  maxage: 'maxAgeMs',
};

function suggestion(name: string, fields: Fields): string {
  const plain = name.toLowerCase().replaceAll(/[^a-z]/g, '');
  const meant = MEANT[plain] ?? Object.keys(fields).find((field) => field.toLowerCase() === plain);
  if (meant !== undefined && Object.hasOwn(fields, meant)) return ` Did you mean "${meant}"?`;
  return ` Known fields: ${Object.keys(fields).join(', ')}.`;
}
