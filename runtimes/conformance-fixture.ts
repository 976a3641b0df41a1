import { readdirSync, readFileSync } from 'node:fs';

/** `fixtures/README.md` describes the format. */

export type RuntimeFamily = 'nodejs' | 'python';

/** Files of a function: path → lines. */
export type Code = Readonly<Record<string, readonly string[]>>;

export interface ExpectedLog {
  readonly stream: string;
  readonly level: string;
  readonly text: unknown;
  /** The invocation's id unless given. */
  readonly id?: string | null;
}

interface FrameContent {
  readonly meta?: Readonly<Record<string, unknown>>;
  readonly body?: unknown;
  readonly bodyBytes?: number;
}

export type Step =
  | (FrameContent & { readonly send: string })
  | (FrameContent & { readonly expect: string })
  | { readonly sendHex: string }
  | { readonly expectHex: string }
  | { readonly expectExit: number }
  | { readonly close: true }
  | InvokeStep;

/** One invocation: INVOKE, its LOG frames in order, then RESPONSE or ERROR. */
export interface InvokeStep {
  readonly invoke: unknown;
  readonly http?: boolean;
  readonly meta?: Readonly<Record<string, unknown>>;
  readonly logs?: readonly ExpectedLog[];
  readonly head?: unknown;
  readonly body?: unknown;
  readonly bodyBytes?: number;
  readonly error?: Readonly<Record<string, unknown>>;
}

export interface Conversation {
  readonly name: string;
  readonly only?: RuntimeFamily;
  readonly because?: string;
  readonly code: Readonly<Record<RuntimeFamily, Code>>;
  readonly handler?: string;
  readonly init?: Readonly<Record<string, unknown>>;
  /** What has happened before the first step: nothing, HELLO, or HELLO, INIT and READY. */
  readonly from?: 'connected' | 'blank' | 'ready';
  readonly steps: readonly Step[];
}

export interface Fixture {
  readonly about: string;
  readonly conversations: readonly Conversation[];
}

const folder = new URL('fixtures/', import.meta.url);

export function fixtureFiles(): string[] {
  return readdirSync(folder)
    .filter((name) => name.endsWith('.json'))
    .sort();
}

/** The conversations of a file as one runtime plays them: those for it, with its own variant of each value. */
export function readConversations(file: string, family: RuntimeFamily): Conversation[] {
  const fixture = JSON.parse(readFileSync(new URL(file, folder), 'utf8')) as Fixture;
  return fixture.conversations
    .filter((conversation) => conversation.only === undefined || conversation.only === family)
    .map((conversation) => {
      const { code, ...rest } = conversation;
      return { ...(variant(rest, family) as Omit<Conversation, 'code'>), code };
    });
}

/** Replaces every `{"$nodejs": a, "$python": b}` by the runtime's own. */
function variant(value: unknown, family: RuntimeFamily): unknown {
  if (Array.isArray(value)) {
    return value.map((item) => variant(item, family));
  }
  if (typeof value !== 'object' || value === null) {
    return value;
  }
  if ('$nodejs' in value && '$python' in value) {
    return variant(family === 'nodejs' ? value.$nodejs : value.$python, family);
  }
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, variant(item, family)]));
}

/**
 * Where `actual` differs from `expected`, or undefined. Objects match key by key; an
 * object with `$is`, `$match` or `$contains` matches by kind, by pattern or by part.
 */
export function difference(actual: unknown, expected: unknown, path = ''): string | undefined {
  if (typeof expected !== 'object' || expected === null) {
    return Object.is(actual, expected)
      ? undefined
      : `${path || 'value'} is ${show(actual)}, expected ${show(expected)}`;
  }
  if ('$is' in expected) {
    return isKind(actual, expected.$is) ? undefined : `${path} is ${show(actual)}, expected a ${String(expected.$is)}`;
  }
  if ('$match' in expected) {
    const matches = typeof actual === 'string' && new RegExp(String(expected.$match), 's').test(actual);
    return matches ? undefined : `${path} is ${show(actual)}, expected /${String(expected.$match)}/`;
  }
  if ('$contains' in expected) {
    return JSON.stringify(actual)?.includes(String(expected.$contains))
      ? undefined
      : `${path} is ${show(actual)}, expected it to contain ${show(expected.$contains)}`;
  }
  if (typeof actual !== 'object' || actual === null || Array.isArray(actual) !== Array.isArray(expected)) {
    return `${path || 'value'} is ${show(actual)}, expected ${show(expected)}`;
  }
  const keys = new Set([...Object.keys(actual), ...Object.keys(expected)]);
  for (const key of keys) {
    const found = difference(Reflect.get(actual, key), Reflect.get(expected, key), `${path}.${key}`);
    if (found !== undefined) {
      return found;
    }
  }
  return undefined;
}

function isKind(value: unknown, kind: unknown): boolean {
  switch (kind) {
    case 'integer':
      return Number.isInteger(value);
    case 'string':
      return typeof value === 'string';
    case 'lines':
      return Array.isArray(value) && value.every((line) => typeof line === 'string' && !line.includes('\n'));
    case 'at most 50 lines':
      return isKind(value, 'lines') && (value as string[]).length <= 50;
    default:
      throw new Error(`unknown kind ${String(kind)}`);
  }
}

function show(value: unknown): string {
  return (JSON.stringify(value) ?? 'undefined').slice(0, 2_000);
}
