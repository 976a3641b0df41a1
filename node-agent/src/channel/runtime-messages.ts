import type { RuntimeFamily } from '@lambda-fleet/common/runtime-names';
import { ProtocolViolation } from './protocol-violation.js';

/** What a runtime says, read from the meta of its frames. Everything in it is claimed by code that may be hostile. */

export interface HelloMessage {
  readonly nonce: string;
  readonly runtime: RuntimeFamily;
  readonly version: string;
}

export interface RuntimeError {
  readonly errorType: string;
  readonly errorMessage: string;
  readonly trace: readonly string[];
}

/** Where code does not parse: `file` relative to the task root, line and column from 1. */
export interface CodeLocation {
  readonly file: string;
  readonly line: number;
  readonly column: number;
}

export interface HttpHead {
  readonly statusCode: number;
  /** Lower-case names; a name may repeat. */
  readonly headers: readonly (readonly [string, string])[];
  readonly cookies: readonly string[];
}

export interface RuntimeFailure extends RuntimeError {
  /** The runtime ends after this frame, because its state is unknown: nothing more may be sent to it. */
  readonly exiting: boolean;
}

export interface LogMessage {
  readonly id: string | undefined;
  readonly stream: 'stdout' | 'stderr';
  readonly level: string;
  readonly unixMs: number;
}

const PROTOCOL = 1;
/** A log line's time is the runtime's own; one further from ours is a broken or hostile clock. */
const LOG_TIME_SKEW_MS = 24 * 60 * 60 * 1000;
const ERROR_TYPE_CHARS_MAX = 256;
const ERROR_MESSAGE_CHARS_MAX = 64 * 1024;
const TRACE_LINES_MAX = 50;
const HTTP_HEAD_CHARS_MAX = 32 * 1024;
const HEADER_NAME = /^[!#$%&'*+.^_`|~0-9a-z-]+$/;
const LEVELS = new Set(['DEBUG', 'INFO', 'WARN', 'ERROR']);

export type Meta = Readonly<Record<string, unknown>>;

export function parseMeta(bytes: Buffer): Meta {
  if (bytes.length === 0) return {};
  let value: unknown;
  try {
    value = JSON.parse(bytes.toString('utf8'));
  } catch {
    throw new ProtocolViolation('the meta of a frame is not JSON');
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new ProtocolViolation('the meta of a frame is not an object');
  }
  return value as Meta;
}

export function readHello(meta: Meta, expected: readonly RuntimeFamily[]): HelloMessage {
  if (meta.protocol !== PROTOCOL) {
    throw new ProtocolViolation(`the runtime speaks protocol ${JSON.stringify(meta.protocol)}, not ${PROTOCOL}`);
  }
  const runtime = expected.find((family) => family === meta.runtime);
  if (runtime === undefined) throw new ProtocolViolation('HELLO names no known runtime');
  return { nonce: text(meta, 'nonce'), runtime, version: text(meta, 'version').slice(0, 64) };
}

export function readError(meta: Meta): RuntimeError {
  const trace = meta.trace ?? [];
  // Only text: turning an object into text calls what it claims to be its methods, and a deep list overflows the stack.
  if (!isListOfTexts(trace)) throw new ProtocolViolation('the trace of an error is not a list of lines');
  return {
    errorType: storable(text(meta, 'errorType').slice(0, ERROR_TYPE_CHARS_MAX)),
    errorMessage: storable(text(meta, 'errorMessage').slice(0, ERROR_MESSAGE_CHARS_MAX)),
    trace: trace.slice(0, TRACE_LINES_MAX).map(storable),
  };
}

export function readFailure(meta: Meta): RuntimeFailure {
  return { ...readError(meta), exiting: meta.exiting === true };
}

export function readLocation(meta: Meta): CodeLocation | undefined {
  const location = meta.location;
  if (typeof location !== 'object' || location === null) return undefined;
  const { file, line, column } = location as Meta;
  if (typeof file !== 'string' || !isPosition(line) || !isPosition(column)) {
    throw new ProtocolViolation('the location of an error is malformed');
  }
  return { file: storable(file), line, column };
}

export function readHttpHead(meta: Meta): HttpHead {
  const http = meta.http;
  if (typeof http !== 'object' || http === null) throw new ProtocolViolation('RESPONSE holds no HTTP head');
  const { statusCode, headers, cookies } = http as Meta;
  if (!Number.isInteger(statusCode) || Number(statusCode) < 200 || Number(statusCode) > 599) {
    throw new ProtocolViolation('the HTTP status is out of range');
  }
  if (!Array.isArray(headers) || !Array.isArray(cookies)) throw new ProtocolViolation('the HTTP head is malformed');
  let chars = 0;
  for (const header of headers) {
    if (!Array.isArray(header) || header.length !== 2) throw new ProtocolViolation('an HTTP header is malformed');
    if (typeof header[0] !== 'string' || !HEADER_NAME.test(header[0]) || !isHeaderValue(header[1])) {
      throw new ProtocolViolation('an HTTP header is malformed');
    }
    chars += header[0].length + header[1].length;
  }
  for (const cookie of cookies) {
    if (!isHeaderValue(cookie)) throw new ProtocolViolation('an HTTP cookie is malformed');
    chars += cookie.length;
  }
  if (chars > HTTP_HEAD_CHARS_MAX) throw new ProtocolViolation('the HTTP head is too long');
  return { statusCode: Number(statusCode), headers, cookies };
}

export function readLog(meta: Meta): LogMessage {
  const { id, stream, level, ts } = meta;
  if (id !== null && id !== undefined && typeof id !== 'string') throw new ProtocolViolation('LOG has a malformed id');
  if (stream !== 'stdout' && stream !== 'stderr') throw new ProtocolViolation('LOG names no stream');
  return {
    id: id ?? undefined,
    stream,
    level: typeof level === 'string' && LEVELS.has(level) ? level : '',
    unixMs: readTime(ts),
  };
}

/** PostgreSQL's text holds no NUL. */
export function storable(value: string): string {
  return value.replaceAll('\0', '\ufffd');
}

function readTime(claimed: unknown): number {
  const now = Date.now();
  return typeof claimed === 'number' && Math.abs(claimed - now) < LOG_TIME_SKEW_MS ? Math.trunc(claimed) : now;
}

function text(meta: Meta, field: string): string {
  const value = meta[field];
  if (typeof value !== 'string') throw new ProtocolViolation(`a frame has no ${field}`);
  return value;
}

function isListOfTexts(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((item) => typeof item === 'string');
}

function isPosition(value: unknown): value is number {
  return Number.isInteger(value) && Number(value) >= 0 && Number(value) <= 0xffff_ffff;
}

/** What `node:http` is willing to send; it throws at anything else. */
function isHeaderValue(value: unknown): value is string {
  return typeof value === 'string' && !/[^\t\x20-\x7e\x80-\xff]/.test(value);
}
