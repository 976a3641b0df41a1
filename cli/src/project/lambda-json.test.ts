import { describe, expect, it } from 'vitest';
import { parseLambdaJson } from './lambda-json.js';

describe('lambda.json', () => {
  it('may have comments, trailing commas, a schema and a byte order mark', () => {
    const source = '\uFEFF{\n  // the name\n  "$schema": "x",\n  "name": "greet", /* more */\n  "memoryMb": 128,\n}\n';
    expect(parseLambdaJson(source, 'lambda.json')).toEqual({ name: 'greet', memoryMb: 128 });
  });

  it.each([
    ['{\n  "name": "a b"\n}', 'lambda.json:2: "name" must be 1 to 64 letters'],
    ['{\n\n  "memoryMb": "128"\n}', 'lambda.json:3: "memoryMb" must be a whole number of megabytes, 64 to 10240'],
    ['{ "cpus": 17 }', 'lambda.json:1: "cpus" must be'],
    ['{ "timeoutMs": 1.5 }', '"timeoutMs" must be a whole number of milliseconds, 100 to 900000'],
    ['{ "runtime": "ruby" }', '"runtime" must be one of "nodejs"'],
    ['{ "handler": "index" }', '"handler" must be a file and an export'],
    ['{ "handler": "index", "runtime": "nodejs" }', '"handler" must be a file and an export'],
    ['{ "handler": "two words", "runtime": "provided" }', '"handler" must be a file and an export'],
    ['{ "environment": { "A": 1 } }', '"environment" must be an object whose values are strings'],
    ['{ "labels": { "zone": 1 } }', '"labels" must be an object whose values are strings'],
    ['{ "environment": [] }', '"environment" must be an object'],
    ['{ "image": { "port": 0 } }', '"image" must be an object, as in'],
    ['{ "image": { "prot": 8080 } }', '"image" must be an object'],
    ['{ "image": { "command": "run" } }', '"image" must be an object'],
    ['{ "image": { "workingDirectory": "srv" } }', '"image" must be an object'],
    ['{ "keepPayloads": "no" }', '"keepPayloads" must be true or false'],
    [
      '{ "limits": {"reserved": -1} }',
      '"limits.reserved" must be a whole number of invocations, 0 to 1000000, or null',
    ],
    ['{ "limits": {"maximum": 0} }', '"limits.maximum" must be a whole number of invocations, 1 to'],
    ['{ "async": 1 }', '"async" must be an object, as in {"retries": 1'],
    ['{ "async": {\n "retries": 6 } }', 'lambda.json:2: "async.retries" must be a whole number, 0 to 5'],
    ['{ "async": { "retryDelaysMs": [] } }', '"async.retryDelaysMs" must be a list of 1 to 5 whole numbers'],
    ['{ "async": { "retryDelaysMs": [1, 3600001] } }', '"async.retryDelaysMs" must be a list'],
    ['{ "async": { "maxAgeMs": 999 } }', '"async.maxAgeMs" must be a whole number of milliseconds, 1000 to 21600000'],
    ['{ "async": { "onFailure": "alert" } }', '"async.onFailure" must be {"function": "<name>"}'],
    ['{ "async": { "onSuccess": { "url": "a" } } }', '"async.onSuccess" must be'],
    ['{ "async": { "onSuccess": { "function": "a", "url": "https://b" } } }', '"async.onSuccess" must be'],
    ['{ "async": { "maxAge": 1 } }', 'unknown field "async.maxAge". Did you mean "maxAgeMs"?'],
    ['{ "async": { "memory": 1 } }', 'unknown field "async.memory". Known fields: retries, retryDelaysMs'],
    ['{ "async": { "$schema": "x" } }', 'unknown field "async.$schema"'],
    ['{ "async": { "retries": 1, "retries": 1 } }', '"async.retries" is there twice'],
    ['{ "httpAuth": "none" }', '"httpAuth" must be one of "key", "public"'],
    ['{ "name": "a",\n "name": "b" }', 'lambda.json:2: "name" is there twice'],
    ['{\n  "memory": 128 }', 'lambda.json:2: unknown field "memory". Did you mean "memoryMb"?'],
    ['{ "MEMORYMB": 128 }', 'Did you mean "memoryMb"?'],
    ['{ "colour": 1 }', 'unknown field "colour". Known fields: name, runtime'],
    ['{ "__proto__": 1 }', 'unknown field "__proto__"'],
    ['{\n  "name": }', 'lambda.json:2: not valid JSON: value expected at column 11'],
    ['{\n  "name": "a"\n', 'not valid JSON: close brace expected'],
    ['[]', 'must hold one object'],
    ['', 'not valid JSON'],
  ])('%j is refused with its place and reason', (source, message) => {
    expect(() => parseLambdaJson(source, 'lambda.json')).toThrow(message);
  });

  it.each([
    '{ "handler": "bootstrap" }',
    '{ "handler": "anything", "runtime": "provided" }',
    '{ "runtime": "provided.al2023", "handler": "it/likes" }',
  ])('%j names the handler of a program', (source) => {
    expect(parseLambdaJson(source, 'lambda.json')).toEqual(JSON.parse(source));
  });

  it('may say how a container image starts', () => {
    const image = { port: null, entrypoint: ['/app'], command: [], workingDirectory: '/srv' };
    expect(parseLambdaJson(JSON.stringify({ runtime: 'image', image }), 'lambda.json')).toEqual({
      runtime: 'image',
      image,
    });
  });

  it('may say how async invocations are tried', () => {
    const async = {
      retries: 0,
      retryDelaysMs: [0, 100],
      maxAgeMs: 1_000,
      onSuccess: null,
      onFailure: { url: 'https://a' },
    };
    expect(parseLambdaJson(JSON.stringify({ async }), 'lambda.json')).toEqual({ async });
    expect(parseLambdaJson('{ "async": {} }', 'lambda.json')).toEqual({ async: {} });
  });

  it('keeps an environment variable whatever it is called', () => {
    const { environment } = parseLambdaJson('{ "environment": { "__proto__": "x", "A": "1" } }', 'lambda.json');
    expect(Object.entries(environment ?? {})).toEqual([
      ['__proto__', 'x'],
      ['A', '1'],
    ]);
  });
});
