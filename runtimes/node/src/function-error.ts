import { inspect } from 'node:util';
import { isNativeError } from 'node:util/types';
import { META_BYTES_MAX } from './frames.js';
import { byteLength, quote } from './intrinsics.js';
import { cutText } from './text.js';

const TYPE_BYTES_MAX = 256;
const MESSAGE_BYTES_MAX = 64 * 1024;
/** Message bytes of an error whose JSON does not fit a frame otherwise: text that is mostly escapes. */
const MESSAGE_BYTES_SMALL = 8 * 1024;
const TRACE_LINES_MAX = 50;
const TRACE_LINE_BYTES_MAX = 1024;

export type FaultType =
  | 'Runtime.MalformedHandlerName'
  | 'Runtime.ImportModuleError'
  | 'Runtime.UserCodeSyntaxError'
  | 'Runtime.HandlerNotFound'
  | 'Runtime.InvalidEvent'
  | 'Runtime.MarshalError'
  | 'Runtime.InvalidHttpResponse'
  | 'Runtime.JobUnsettled'
  | 'Function.ResponseSizeTooLarge';

/** Where user code does not parse; line and column from 1, `file` relative to the task root where it is inside. */
export interface Location {
  readonly file: string;
  readonly line: number;
  readonly column: number;
}

/** An error of a function that the runtime found, as opposed to one that user code threw. */
export class Fault extends Error {
  constructor(
    readonly type: FaultType,
    message: string,
    readonly location?: Location,
  ) {
    super(message);
  }
}

/** The members `errorType`, `errorMessage` and `trace` of a frame's meta, as JSON text without braces; never throws. */
export function errorMembers(thrown: unknown): string {
  const { type, message, trace } = describe(thrown);
  const errorType = quote(cutText(type, TYPE_BYTES_MAX));
  const members = (messageBytes: number, lines: readonly string[]) =>
    `"errorType":${errorType},"errorMessage":${quote(cutText(message, messageBytes))},"trace":[${lines.map((line) => quote(line)).join()}]`;
  const whole = members(MESSAGE_BYTES_MAX, trace);
  return byteLength(whole) <= META_BYTES_MAX - 1024 ? whole : members(MESSAGE_BYTES_SMALL, []);
}

interface Description {
  readonly type: string;
  readonly message: string;
  readonly trace: readonly string[];
}

function describe(thrown: unknown): Description {
  if (!isError(thrown)) {
    return { type: 'Error', message: shown(thrown), trace: [] };
  }
  if (thrown instanceof Fault) {
    return { type: thrown.type, message: thrown.message, trace: [] };
  }
  return {
    type: member(thrown, 'name') || 'Error',
    message: member(thrown, 'message'),
    trace: traceLines(member(thrown, 'stack')),
  };
}

/** Errors of other realms count too. A proxy may throw when it is asked what it is. */
function isError(thrown: unknown): thrown is Error {
  try {
    return isNativeError(thrown) || thrown instanceof Error;
  } catch {
    return false;
  }
}

/** A member of a thrown error as text. User code may have made it a throwing getter or anything else. */
function member(thrown: Error, name: 'name' | 'message' | 'stack'): string {
  try {
    const value: unknown = thrown[name];
    return value === undefined ? '' : shown(value);
  } catch {
    return '';
  }
}

/** The string form of what is not an error: a string as it is, anything else as `console.log` would show it. */
function shown(value: unknown): string {
  try {
    return typeof value === 'string' ? value : inspect(value, { depth: 2 });
  } catch {
    return 'a value that cannot be shown';
  }
}

/** The stack's lines as far down as user code goes, without the runtime's own. */
function traceLines(stack: string): string[] {
  if (stack === '') {
    return [];
  }
  const lines = stack.split('\n');
  const isOwn = (line: string) => line.includes(__filename);
  if (lines.some(isOwn)) {
    const isBelowUserCode = (line: string) => isOwn(line) || /^ {4}at .*(?:\(<anonymous>\)|\bnode:)/.test(line);
    lines.length = lines.findLastIndex((line) => !isBelowUserCode(line)) + 1;
  }
  return lines
    .filter((line) => !isOwn(line))
    .slice(0, TRACE_LINES_MAX)
    .map((line) => cutText(line, TRACE_LINE_BYTES_MAX));
}
