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
    ['{ "environment": [] }', '"environment" must be an object'],
    ['{ "image": { "port": 0 } }', '"image" must be an object, as in'],
    ['{ "image": { "prot": 8080 } }', '"image" must be an object'],
    ['{ "image": { "command": "run" } }', '"image" must be an object'],
    ['{ "image": { "workingDirectory": "srv" } }', '"image" must be an object'],
    ['{ "keepPayloads": "no" }', '"keepPayloads" must be true or false'],
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

  it('keeps an environment variable whatever it is called', () => {
    const { environment } = parseLambdaJson('{ "environment": { "__proto__": "x", "A": "1" } }', 'lambda.json');
    expect(Object.entries(environment ?? {})).toEqual([
      ['__proto__', 'x'],
      ['A', '1'],
    ]);
  });
});
