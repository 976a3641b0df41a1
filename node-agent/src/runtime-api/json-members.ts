const SPACE = 0x20;
const QUOTE = 0x22;
const COMMA = 0x2c;
const COLON = 0x3a;
const BACKSLASH = 0x5c;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;
/** Longer names are none that anybody asks for. */
const NAME_BYTES_MAX = 64;

/**
 * The members of a JSON object as the text of their values, of which only those are kept whose names are wanted; the last one of a name
 * counts. Undefined when the bytes are not an object.
 *
 * The bytes are walked once and no values are made: what a function returns is parsed at the agent's cost, and 6 MB of `[[[…` or of a million
 * empty objects take `JSON.parse` more than a second and hundreds of megabytes; this takes 20 ms of them and no memory. What is inside a
 * value is only looked at for its end, so a value may turn out not to be JSON.
 */
export function jsonMembers(bytes: Buffer, wanted: ReadonlySet<string>): Map<string, Buffer> | undefined {
  const members = new Map<string, Buffer>();
  let at = skipSpace(bytes, 0);
  if (bytes[at] !== OPEN_BRACE) return undefined;
  at = skipSpace(bytes, at + 1);
  if (bytes[at] === CLOSE_BRACE) return skipSpace(bytes, at + 1) === bytes.length ? members : undefined;
  for (;;) {
    if (bytes[at] !== QUOTE) return undefined;
    const nameEnd = stringEnd(bytes, at);
    const name = nameEnd - at <= NAME_BYTES_MAX ? bytes.toString('utf8', at + 1, nameEnd - 1) : '';
    at = skipSpace(bytes, nameEnd);
    if (bytes[at] !== COLON) return undefined;
    at = skipSpace(bytes, at + 1);
    const end = valueEnd(bytes, at);
    if (end === at || end > bytes.length) return undefined;
    if (wanted.has(name)) members.set(name, bytes.subarray(at, end));
    at = skipSpace(bytes, end);
    if (bytes[at] === CLOSE_BRACE) return skipSpace(bytes, at + 1) === bytes.length ? members : undefined;
    if (bytes[at] !== COMMA) return undefined;
    at = skipSpace(bytes, at + 1);
  }
}

/** Whether a value other than an object looks like JSON from outside. */
export function looksLikeJson(bytes: Buffer): boolean {
  const start = skipSpace(bytes, 0);
  let end = bytes.length;
  while (end > start && isSpace(bytes[end - 1])) end -= 1;
  if (bytes[start] === OPEN_BRACKET) return bytes[end - 1] === CLOSE_BRACKET;
  if (bytes[start] === QUOTE) return stringEnd(bytes, start) === end;
  if (end - start > NAME_BYTES_MAX) return false;
  const text = bytes.toString('latin1', start, end);
  return /^(true|false|null|-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?)$/.test(text);
}

/** Behind the value that begins at `at`; past the end of the bytes when it does not end. */
function valueEnd(bytes: Buffer, at: number): number {
  const first = bytes[at];
  if (first === QUOTE) return stringEnd(bytes, at);
  if (first === OPEN_BRACE || first === OPEN_BRACKET) return nestedEnd(bytes, at);
  let end = at;
  while (end < bytes.length && !isSpace(bytes[end]) && bytes[end] !== COMMA && bytes[end] !== CLOSE_BRACE) end += 1;
  return end;
}

function nestedEnd(bytes: Buffer, start: number): number {
  let depth = 0;
  let at = start;
  while (at < bytes.length) {
    const byte = bytes[at];
    if (byte === QUOTE) {
      at = stringEnd(bytes, at);
      continue;
    }
    if (byte === OPEN_BRACE || byte === OPEN_BRACKET) depth += 1;
    else if (byte === CLOSE_BRACE || byte === CLOSE_BRACKET) depth -= 1;
    at += 1;
    if (depth === 0) return at;
  }
  return bytes.length + 1;
}

/** Behind the closing quote of the string that begins at `start`. */
function stringEnd(bytes: Buffer, start: number): number {
  let at = start + 1;
  while (at < bytes.length && bytes[at] !== QUOTE) at += bytes[at] === BACKSLASH ? 2 : 1;
  return at < bytes.length ? at + 1 : bytes.length + 1;
}

function skipSpace(bytes: Buffer, from: number): number {
  let at = from;
  while (isSpace(bytes[at])) at += 1;
  return at;
}

function isSpace(byte: number | undefined): boolean {
  return byte === SPACE || byte === 0x0a || byte === 0x0d || byte === 0x09;
}
