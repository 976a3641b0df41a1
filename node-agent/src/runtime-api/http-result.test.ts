import { describe, expect, test } from 'vitest';
import { httpResult } from './http-result.js';
import { mapHttpResult } from './map-http-result.js';

const JSON_HEAD = { statusCode: 200, headers: [['content-type', 'application/json']], cookies: [] };

function mapped(value: string | Buffer, contentType?: string) {
  const result = httpResult(Buffer.from(value), contentType);
  if (result.kind === 'invalid') throw new Error(result.problem);
  return { http: result.http, body: Buffer.from(result.body).toString() };
}

describe('a value without a status is the body', () => {
  test.each([
    '{"a":1}',
    '{}',
    '[1, 2]',
    '"text"',
    'null',
    ' true\n',
    '-1.5e3',
    '{"nested":{"statusCode":404}}',
    '[{"statusCode":404}]',
  ])('%s', (json) => {
    expect(mapped(json)).toEqual({ http: JSON_HEAD, body: json });
  });
});

test.each([
  ['hello', 'text/plain; charset=utf-8'],
  ['', 'text/plain; charset=utf-8'],
  ['{not json', 'text/plain; charset=utf-8'],
  ['{"statusCode":200} and more', 'text/plain; charset=utf-8'],
  ['Zoë', 'text/plain; charset=utf-8'],
  [Buffer.from([0xff, 0xfe]), 'application/octet-stream'],
])('what is not JSON is sent as it is: %j', (bytes, type) => {
  const result = httpResult(Buffer.from(bytes), 'application/json');
  expect(result).toMatchObject({ http: { statusCode: 200, headers: [['content-type', type]] } });
});

describe('a response', () => {
  test.each<[string, object, string]>([
    ['{"statusCode":204}', { statusCode: 204, headers: [], cookies: [] }, ''],
    ['{"statusCode":200,"body":null}', { statusCode: 200, headers: [], cookies: [] }, ''],
    ['{"statusCode":200,"body":"a\\u00e9\\n"}', { statusCode: 200, headers: [], cookies: [] }, 'aé\n'],
    ['{"statusCode":200,"body":""}', { statusCode: 200, headers: [], cookies: [] }, ''],
    ['{"statusCode":200,"body":{"a": [1]}}', JSON_HEAD, '{"a": [1]}'],
    ['{"statusCode":200,"body":0}', JSON_HEAD, '0'],
    ['{"statusCode":200,"body":"aGk=","isBase64Encoded":true}', { statusCode: 200, headers: [], cookies: [] }, 'hi'],
    [
      '{"statusCode":200,"body":"aGk=","isBase64Encoded":"true"}',
      { statusCode: 200, headers: [], cookies: [] },
      'aGk=',
    ],
    [
      '{"statusCode":200,"headers":{"X-A":"1","x-b":[1,true,null],"Content-Type":"text/x"},"cookies":["a=b"],"body":{}}',
      {
        statusCode: 200,
        headers: [
          ['x-a', '1'],
          ['x-b', '1'],
          ['x-b', 'true'],
          ['content-type', 'text/x'],
        ],
        cookies: ['a=b'],
      },
      '{}',
    ],
    [' { "body" : "}\\"{" , "statusCode" : 200 } ', { statusCode: 200, headers: [], cookies: [] }, '}"{'],
    // As JSON.parse has it, the last one counts.
    ['{"statusCode":500,"statusCode":200,"body":"x"}', { statusCode: 200, headers: [], cookies: [] }, 'x'],
  ])('%s', (json, http, body) => {
    expect(mapped(json)).toEqual({ http, body });
  });

  test.each([
    ['{"statusCode":199}', 'statusCode'],
    ['{"statusCode":600}', 'statusCode'],
    ['{"statusCode":"200"}', 'statusCode'],
    ['{"statusCode":200.5}', 'statusCode'],
    ['{"statusCode":null}', 'statusCode'],
    ['{"statusCode":nonsense}', 'statusCode is not JSON'],
    ['{"statusCode":200,"headers":[]}', 'headers must be an object'],
    ['{"statusCode":200,"headers":{"a b":"c"}}', 'cannot be a header'],
    ['{"statusCode":200,"headers":{"a":"b\\r\\nc"}}', 'HTTP does not allow'],
    ['{"statusCode":200,"headers":{"a":"\\u0000"}}', 'HTTP does not allow'],
    ['{"statusCode":200,"headers":{"a":{}}}', 'must be a string'],
    ['{"statusCode":200,"headers":{"a":[[1]]}}', 'must be a string'],
    ['{"statusCode":200,"cookies":"a=b"}', 'cookies must be an array'],
    ['{"statusCode":200,"cookies":["\\n"]}', 'cookie'],
    ['{"statusCode":200,"body":"a","isBase64Encoded":true}', 'base64'],
    ['{"statusCode":200,"body":"\\x"}', 'body is not JSON'],
    [`{"statusCode":200,"headers":{"a":"${'x'.repeat(33_000)}"}}`, 'together exceed'],
    [`{"statusCode":200,"headers":${'['.repeat(70_000)}${']'.repeat(70_000)}}`, 'headers is longer than'],
  ])('%s is malformed', (json, problem) => {
    expect(httpResult(Buffer.from(json), undefined)).toMatchObject({
      kind: 'invalid',
      problem: expect.stringContaining(problem),
    });
  });
});

describe('a head of its own', () => {
  const type = 'Application/vnd.awslambda.http-integration-response; charset=x';
  const end = '\0\0\0\0\0\0\0\0';

  test('is taken off the body', () => {
    expect(mapped(`{"statusCode":404,"headers":{"content-type":"a/b"}}${end}{"statusCode":500}`, type)).toEqual({
      http: { statusCode: 404, headers: [['content-type', 'a/b']], cookies: [] },
      body: '{"statusCode":500}',
    });
    expect(mapped(`{}${end}`, type)).toEqual({
      http: { statusCode: 200, headers: [['content-type', 'application/octet-stream']], cookies: [] },
      body: '',
    });
  });

  test.each([
    ['{}', '8 NUL bytes'],
    [`${' '.repeat(70_000)}{}${end}`, '8 NUL bytes'],
    [`[]${end}`, 'not a JSON object'],
    [`{"statusCode":99}${end}`, 'statusCode'],
  ])('%j is malformed', (bytes, problem) => {
    expect(httpResult(Buffer.from(bytes), type)).toMatchObject({
      kind: 'invalid',
      problem: expect.stringContaining(problem),
    });
  });
});

describe('6 MB', () => {
  const SIZE = 6_000_000;
  const repeated = (text: string) => text.repeat(SIZE / text.length);

  test.each([
    ['of open brackets', '['.repeat(SIZE), 'text/plain; charset=utf-8'],
    ['of nested arrays', `${'['.repeat(SIZE / 2)}${']'.repeat(SIZE / 2)}`, 'application/json'],
    ['of nested objects', `${repeated('{"a":')}1${'}'.repeat(SIZE / 5)}`, 'application/json'],
    ['of empty objects', `[${repeated('{},')}{}]`, 'application/json'],
    ['of members', `{${repeated('"a":1,')}"b":2}`, 'application/json'],
    ['of quotes', `"${repeated('\\"')}"`, 'application/json'],
    ['of backslashes', `"${repeated('\\')}`, 'text/plain; charset=utf-8'],
    ['of blanks', ' '.repeat(SIZE), 'text/plain; charset=utf-8'],
  ])('%s are mapped in another thread, and come back whole', async (_, text, type) => {
    const bytes = Buffer.from(text);
    const result = await mapHttpResult(Buffer.from(text), undefined);
    expect(result).toMatchObject({ kind: 'response', http: { headers: [['content-type', type]] } });
    expect(result.kind === 'response' && bytes.equals(result.body)).toBe(true);
  });

  test('the event loop goes on meanwhile, and answers do not get mixed up', async () => {
    let turns = 0;
    const timer = setInterval(() => {
      turns += 1;
    }, 1);
    const answers = await Promise.all(
      ['a', 'b', 'c'].map((letter) => {
        const body = letter.repeat(2_000_000);
        return mapHttpResult(Buffer.from(JSON.stringify({ statusCode: 200, body })), undefined);
      }),
    );
    clearInterval(timer);
    expect(
      answers.map((answer) => answer.kind === 'response' && Buffer.from(answer.body.subarray(0, 2)).toString()),
    ).toEqual(['aa', 'bb', 'cc']);
    expect(turns).toBeGreaterThan(0);
  });

  test('of answer around a small body do not keep 6 MB', async () => {
    const json = JSON.stringify({ filler: 'x'.repeat(SIZE), statusCode: 200, body: { small: true } });
    const result = await mapHttpResult(Buffer.from(json), undefined);
    expect(result.kind === 'response' && result.body.buffer.byteLength).toBeLessThan(10_000);
  });
});
