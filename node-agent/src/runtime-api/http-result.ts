import { isUtf8 } from 'node:buffer';
import type { HttpHead } from '../channel/runtime-messages.js';
import { jsonMembers, looksLikeJson } from './json-members.js';

/** The result of an HTTP invocation, as `runtimes/PROTOCOL.md` says under "Result, http: true". */
export type HttpResult =
  | { readonly kind: 'response'; readonly http: HttpHead; readonly body: Uint8Array }
  /** What is wrong with it. */
  | { readonly kind: 'invalid'; readonly problem: string };

/** Content type of a response that begins with a head of its own: JSON, eight NUL bytes, body. */
const WITH_PRELUDE = 'application/vnd.awslambda.http-integration-response';
const PRELUDE_END = Buffer.alloc(8);
/** Members that are parsed have no reason to be longer, as header names and values may have 32 KiB together. */
const PARSED_BYTES_MAX = 64 * 1024;
/** Header names, values and cookies together, as HTTP/1.1 writes them: `name: value` and a line end. */
const HEAD_BYTES_MAX = 32 * 1024;
const HEADER_NAME = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const HEADER_VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;
const BASE64 = /^[A-Za-z0-9+/]*={0,2}$/;
const MEMBERS = new Set(['statusCode', 'headers', 'cookies', 'isBase64Encoded', 'body']);

class Invalid extends Error {}

/** Maps what a program answered to an HTTP response. The body may be a view of `bytes`. */
export function httpResult(bytes: Buffer, contentType: string | undefined): HttpResult {
  try {
    const type = contentType?.split(';', 1)[0]?.trim().toLowerCase();
    return type === WITH_PRELUDE ? withPrelude(bytes) : fromValue(bytes);
  } catch (err) {
    if (err instanceof Invalid) return { kind: 'invalid', problem: err.message };
    throw err;
  }
}

function withPrelude(bytes: Buffer): HttpResult {
  const end = bytes.subarray(0, PARSED_BYTES_MAX).indexOf(PRELUDE_END);
  if (end === -1) throw new Invalid(`no 8 NUL bytes end a head in its first ${PARSED_BYTES_MAX} bytes`);
  const members = jsonMembers(bytes.subarray(0, end), MEMBERS);
  if (members === undefined) throw new Invalid('its head is not a JSON object');
  const head = headOf(members);
  head.addUnlessSet('content-type', 'application/octet-stream');
  const statusCode = members.has('statusCode') ? parsed(members, 'statusCode') : 200;
  return response(head.finish(statusCode), bytes.subarray(end + PRELUDE_END.length));
}

function fromValue(bytes: Buffer): HttpResult {
  const members = jsonMembers(bytes, MEMBERS);
  if (members === undefined && !looksLikeJson(bytes)) return notJson(bytes);
  if (members?.has('statusCode') !== true) return plain('application/json', bytes);
  const head = headOf(members);
  const body = members.get('body') ?? Buffer.from('null');
  const isText = body[0] === 0x22;
  const isAbsent = body.length === 4 && body.toString() === 'null';
  if (!isText && !isAbsent) head.addUnlessSet('content-type', 'application/json');
  const http = head.finish(parsed(members, 'statusCode'));
  if (isAbsent) return response(http, Buffer.alloc(0));
  // JSON that is no text is sent as it stands there.
  if (!isText) return response(http, body);
  return response(http, textBody(body, parsed(members, 'isBase64Encoded') === true));
}

/** Programs need not answer in JSON. */
function notJson(bytes: Buffer): HttpResult {
  return plain(isUtf8(bytes) ? 'text/plain; charset=utf-8' : 'application/octet-stream', bytes);
}

function plain(type: string, bytes: Buffer): HttpResult {
  return response({ statusCode: 200, headers: [['content-type', type]], cookies: [] }, bytes);
}

function textBody(json: Buffer, isBase64: boolean): Buffer {
  const body: unknown = parse(json, 'body');
  if (typeof body !== 'string') throw new Invalid('body is not JSON');
  if (!isBase64) return Buffer.from(body);
  if (body.length % 4 !== 0 || !BASE64.test(body)) throw new Invalid('isBase64Encoded is true and body is not base64');
  return Buffer.from(body, 'base64');
}

function headOf(members: ReadonlyMap<string, Buffer>): Head {
  const head = new Head();
  head.addHeaders(parsed(members, 'headers'));
  head.addCookies(parsed(members, 'cookies'));
  return head;
}

/** Undefined when there is no such member. */
function parsed(members: ReadonlyMap<string, Buffer>, name: string): unknown {
  const json = members.get(name);
  if (json === undefined) return undefined;
  if (json.length > PARSED_BYTES_MAX) throw new Invalid(`${name} is longer than ${PARSED_BYTES_MAX} bytes`);
  return parse(json, name);
}

function parse(json: Buffer, name: string): unknown {
  try {
    return JSON.parse(json.toString('utf8'));
  } catch {
    throw new Invalid(`${name} is not JSON`);
  }
}

/** Collects headers and cookies, checked. */
class Head {
  readonly #headers: [string, string][] = [];
  readonly #cookies: string[] = [];
  #bytes = 0;

  addHeaders(headers: unknown): void {
    if (headers === undefined || headers === null) return;
    if (typeof headers !== 'object' || Array.isArray(headers)) throw new Invalid('headers must be an object');
    for (const [name, value] of Object.entries(headers)) {
      for (const item of Array.isArray(value) ? value : [value]) {
        if (item !== null) this.#addHeader(name, item);
      }
    }
  }

  addUnlessSet(name: string, value: string): void {
    if (!this.#headers.some(([existing]) => existing === name)) this.#addHeader(name, value);
  }

  addCookies(cookies: unknown): void {
    if (cookies === undefined || cookies === null) return;
    if (!Array.isArray(cookies)) throw new Invalid('cookies must be an array');
    for (const cookie of cookies) {
      if (typeof cookie !== 'string' || !HEADER_VALUE.test(cookie)) {
        throw new Invalid('each cookie must be a string that HTTP allows in a header');
      }
      this.#count('set-cookie', cookie);
      this.#cookies.push(cookie);
    }
  }

  finish(statusCode: unknown): HttpHead {
    if (typeof statusCode !== 'number' || !Number.isInteger(statusCode) || statusCode < 200 || statusCode > 599) {
      throw new Invalid('statusCode must be an integer from 200 to 599');
    }
    return { statusCode, headers: this.#headers, cookies: this.#cookies };
  }

  #addHeader(name: string, value: unknown): void {
    if (!HEADER_NAME.test(name)) throw new Invalid(`${shown(name)} cannot be a header's name`);
    if (typeof value !== 'string' && typeof value !== 'number' && typeof value !== 'boolean') {
      throw new Invalid(`the header ${shown(name)} must be a string, number, boolean or an array of these`);
    }
    const text = String(value);
    if (!HEADER_VALUE.test(text))
      throw new Invalid(`the header ${shown(name)} holds a character that HTTP does not allow`);
    const lowerCase = name.toLowerCase();
    this.#count(lowerCase, text);
    this.#headers.push([lowerCase, text]);
  }

  #count(name: string, value: string): void {
    this.#bytes += name.length + value.length + 4;
    if (this.#bytes > HEAD_BYTES_MAX) throw new Invalid(`headers and cookies together exceed ${HEAD_BYTES_MAX} bytes`);
  }
}

function response(http: HttpHead, body: Uint8Array): HttpResult {
  return { kind: 'response', http, body };
}

function shown(name: string): string {
  return JSON.stringify(name.slice(0, 100));
}
