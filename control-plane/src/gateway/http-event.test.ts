import { describe, expect, it } from 'vitest';
import { type HttpEventInput, httpEvent } from './http-event.js';

const input: HttpEventInput = {
  method: 'POST',
  path: '/a/b%20c',
  query: 'x=1&y=%C3%A9&x=2&__proto__=p',
  rawHeaders: [
    ...['Host', 'greet.localhost:8080', 'User-Agent', 'test/1', 'X-Many', 'a', 'x-many', 'b'],
    ...['Cookie', 'a=1; b=2', 'Connection', 'close, X-Secret-Hop', 'X-Secret-Hop', '1', 'TE', 'trailers'],
    ...['Content-Type', 'application/json; charset=utf-8', 'X-Api-Key', 'lf_', 'X-Forwarded-For', '9.9.9.9'],
  ],
  withheld: new Set(['x-api-key']),
  body: Buffer.from('{"é":1}'),
  functionName: 'greet',
  domainName: 'greet.localhost',
  httpVersion: '1.1',
  sourceIp: '127.0.0.1',
  requestId: '0192',
  timeEpoch: Date.UTC(2020, 2, 12, 19, 3, 58),
};
const eventOf = (changes: Partial<HttpEventInput> = {}) => JSON.parse(httpEvent({ ...input, ...changes }).toString());

describe('an HTTP event', () => {
  it('is payload format 2.0 to the letter', () => {
    expect(eventOf()).toEqual({
      version: '2.0',
      routeKey: '$default',
      rawPath: '/a/b%20c',
      rawQueryString: 'x=1&y=%C3%A9&x=2&__proto__=p',
      cookies: ['a=1', 'b=2'],
      headers: {
        host: 'greet.localhost:8080',
        'user-agent': 'test/1',
        'x-many': 'a,b',
        'content-type': 'application/json; charset=utf-8',
        'x-forwarded-for': '9.9.9.9, 127.0.0.1',
        'x-forwarded-proto': 'http',
        'x-forwarded-port': '8080',
      },
      queryStringParameters: JSON.parse('{"x":"1,2","y":"é","__proto__":"p"}'),
      requestContext: {
        accountId: '000000000000',
        apiId: 'greet',
        domainName: 'greet.localhost',
        domainPrefix: 'greet',
        http: {
          method: 'POST',
          path: '/a/b%20c',
          protocol: 'HTTP/1.1',
          sourceIp: '127.0.0.1',
          userAgent: 'test/1',
        },
        requestId: '0192',
        routeKey: '$default',
        stage: '$default',
        time: '12/Mar/2020:19:03:58 +0000',
        timeEpoch: 1_584_039_838_000,
      },
      body: '{"é":1}',
      isBase64Encoded: false,
    });
  });

  it('leaves out what there is none of', () => {
    const event = eventOf({ query: '', body: Buffer.alloc(0), rawHeaders: [] });
    expect(Object.keys(event)).toEqual([
      ...['version', 'routeKey', 'rawPath', 'rawQueryString', 'headers', 'requestContext', 'isBase64Encoded'],
    ]);
    expect(event.isBase64Encoded).toBe(false);
  });

  it.each([
    ['text/html', 'é', false],
    ['TEXT/plain; charset=x', 'é', false],
    ['application/problem+json', '{}', false],
    ['application/xml', '<a/>', false],
    ['image/png', 'x', true],
    ['application/octet-stream', 'x', true],
    ['application/x-www-form-urlencoded', 'a=1', true],
    ['', 'x', true],
  ])('a body of type "%s" is base64: %s %s', (type, text, base64) => {
    const event = eventOf({ rawHeaders: ['Content-Type', type], body: Buffer.from(text) });
    expect(event.isBase64Encoded).toBe(base64);
    expect(Buffer.from(event.body, base64 ? 'base64' : 'utf8').toString()).toBe(text);
  });

  it('text that is not UTF-8 arrives unharmed, as base64', () => {
    const body = Buffer.from([0xff, 0xfe, 0x41]);
    const event = eventOf({ body });
    expect(event.isBase64Encoded).toBe(true);
    expect(Buffer.from(event.body, 'base64').equals(body)).toBe(true);
  });
});
