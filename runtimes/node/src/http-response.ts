import type { BodyEncoding } from './frames.js';
import { Fault } from './function-error.js';
import { byteLength, quote } from './intrinsics.js';
import { marshal, reason } from './result.js';

/** Header names, values and cookies together, as HTTP/1.1 writes them: `name: value` and a line end. */
const HEAD_BYTES_MAX = 32 * 1024;

const HEADER_NAME = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
/** What HTTP allows in a value: tab, printable ASCII and Latin-1. */
const HEADER_VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;
const BASE64 = /^[A-Za-z0-9+/]*={0,2}$/;

export interface HttpResponse {
  /** The member `http` of a RESPONSE frame's meta, as JSON text. */
  readonly head: string;
  readonly body: string;
  readonly encoding: BodyEncoding;
}

const JSON_HEAD = '{"statusCode":200,"headers":[["content-type","application/json"]],"cookies":[]}';

/**
 * Maps a handler's value to an HTTP response, as PROTOCOL.md says under INVOKE.
 *
 * @throws Fault Runtime.InvalidHttpResponse or Runtime.MarshalError
 */
export function httpResponse(value: unknown): HttpResponse {
  const parts = responseParts(value);
  if (parts === undefined) {
    return { head: JSON_HEAD, body: marshal(value), encoding: 'utf8' };
  }
  const { statusCode } = parts;
  if (typeof statusCode !== 'number' || !Number.isInteger(statusCode) || statusCode < 200 || statusCode > 599) {
    throw invalid(`statusCode must be an integer from 200 to 599, not ${shown(statusCode)}`);
  }
  const head = new Head();
  head.addHeaders(parts.headers);
  head.addCookies(parts.cookies);
  const { body, encoding } = responseBody(parts.body, parts.isBase64Encoded === true, head);
  return { head: head.toJson(statusCode), body, encoding };
}

interface ResponseParts {
  readonly statusCode: unknown;
  readonly headers: unknown;
  readonly cookies: unknown;
  readonly isBase64Encoded: unknown;
  readonly body: unknown;
}

/** The members of a value that is an HTTP response, each read once: they may be getters. */
function responseParts(value: unknown): ResponseParts | undefined {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    return undefined;
  }
  try {
    const { statusCode, headers, cookies, isBase64Encoded, body } = value as Partial<ResponseParts>;
    return statusCode === undefined ? undefined : { statusCode, headers, cookies, isBase64Encoded, body };
  } catch (thrown) {
    throw new Fault('Runtime.MarshalError', `The handler's result cannot be read: ${reason(thrown)}`);
  }
}

function responseBody(body: unknown, isBase64: boolean, head: Head): { body: string; encoding: BodyEncoding } {
  if (body === undefined || body === null) {
    return { body: '', encoding: 'utf8' };
  }
  if (typeof body !== 'string') {
    head.addContentType();
    return { body: marshal(body), encoding: 'utf8' };
  }
  if (!isBase64) {
    return { body, encoding: 'utf8' };
  }
  if (body.length % 4 !== 0 || !BASE64.test(body)) {
    throw invalid('isBase64Encoded is true and body is not base64');
  }
  return { body, encoding: 'base64' };
}

/** Collects headers and cookies, checked, as the JSON text that the frame carries. */
class Head {
  readonly #headers: string[] = [];
  readonly #cookies: string[] = [];
  #bytes = 0;
  #hasContentType = false;

  addHeaders(headers: unknown): void {
    if (headers === undefined || headers === null) {
      return;
    }
    if (typeof headers !== 'object' || Array.isArray(headers)) {
      throw invalid(`headers must be an object, not ${shown(headers)}`);
    }
    for (const [name, value] of entriesOf(headers)) {
      for (const item of Array.isArray(value) ? value : [value]) {
        if (item !== undefined && item !== null) {
          this.#addHeader(name, item);
        }
      }
    }
  }

  addCookies(cookies: unknown): void {
    if (cookies === undefined || cookies === null) {
      return;
    }
    if (!Array.isArray(cookies)) {
      throw invalid(`cookies must be an array, not ${shown(cookies)}`);
    }
    for (const cookie of cookies) {
      if (typeof cookie !== 'string' || !HEADER_VALUE.test(cookie)) {
        throw invalid('each cookie must be a string that HTTP allows in a header');
      }
      this.#count('set-cookie', cookie);
      this.#cookies.push(quote(cookie));
    }
  }

  addContentType(): void {
    if (!this.#hasContentType) {
      this.#addHeader('content-type', 'application/json');
    }
  }

  toJson(statusCode: number): string {
    return `{"statusCode":${statusCode},"headers":[${this.#headers.join()}],"cookies":[${this.#cookies.join()}]}`;
  }

  #addHeader(name: string, value: unknown): void {
    if (!HEADER_NAME.test(name)) {
      throw invalid(`${shown(name)} cannot be a header's name`);
    }
    const text = headerText(value);
    if (text === undefined) {
      throw invalid(`the header ${shown(name)} must be a string, number, boolean or an array of these`);
    }
    if (!HEADER_VALUE.test(text)) {
      throw invalid(`the header ${shown(name)} holds a character that HTTP does not allow`);
    }
    const lowerCase = name.toLowerCase();
    this.#hasContentType ||= lowerCase === 'content-type';
    this.#count(lowerCase, text);
    this.#headers.push(`[${quote(lowerCase)},${quote(text)}]`);
  }

  #count(name: string, value: string): void {
    this.#bytes += byteLength(name) + byteLength(value) + 4;
    if (this.#bytes > HEAD_BYTES_MAX) {
      throw invalid(`headers and cookies together exceed ${HEAD_BYTES_MAX} bytes`);
    }
  }
}

function headerText(value: unknown): string | undefined {
  switch (typeof value) {
    case 'string':
      return value;
    case 'boolean':
      return String(value);
    case 'number':
      return Number.isFinite(value) ? String(value) : undefined;
    default:
      return undefined;
  }
}

function entriesOf(headers: object): [string, unknown][] {
  try {
    return Object.entries(headers);
  } catch (thrown) {
    throw new Fault('Runtime.MarshalError', `The handler's headers cannot be read: ${reason(thrown)}`);
  }
}

function shown(value: unknown): string {
  return typeof value === 'string'
    ? quote(value.slice(0, 100))
    : typeof value === 'number'
      ? String(value)
      : kind(value);
}

function kind(value: unknown): string {
  return value === null ? 'null' : Array.isArray(value) ? 'an array' : `a value of type ${typeof value}`;
}

function invalid(problem: string): Fault {
  return new Fault('Runtime.InvalidHttpResponse', `The handler's HTTP response is malformed: ${problem}.`);
}
