import { describe, expect, it } from 'vitest';
import { inlineCode } from './code.js';
import { configOf, definitionChanges, functionName } from './definition.js';
import { parseInput } from './parse-input.js';

describe('a definition', () => {
  it('gets the documented defaults', () => {
    expect(configOf('f', {})).toEqual({
      ...{
        name: 'f',
        route: 'f',
        httpAuth: 'key',
        runtime: 'nodejs',
        handler: 'index.handler',
        memoryMb: 512,
        cpus: 1,
      },
      ...{ timeoutMs: 30_000, initTimeoutMs: 10_000, keepAliveMs: 600_000, environment: {} },
      ...{ isolation: 'auto', network: 'none', egressHosts: [], labels: {}, concurrency: 1, keepRunning: false },
      ...{ provisionedConcurrency: 0, keepPayloads: true, imageSettings: {} },
    });
    expect(configOf('f', { runtime: 'python3.11' }).handler).toBe('main.handler');
  });

  it('takes several invocations per sandbox only where the runtime can run them', () => {
    expect(configOf('f', { runtime: 'nodejs22.x', concurrency: 8 }).concurrency).toBe(8);
    const message = 'concurrency must be 1 with the runtime python3.11: only the Node.js runtimes run several';
    const refusal = { code: 'invalid_request', message: expect.stringContaining(message) };
    expect(() => configOf('f', { runtime: 'python3.11', concurrency: 2 })).toThrow(expect.objectContaining(refusal));
    const before = configOf('f', { concurrency: 8 });
    expect(() => configOf('f', { runtime: 'python3.11' }, before)).toThrow(expect.objectContaining(refusal));
    expect(configOf('f', { runtime: 'python3.11', concurrency: 1 }, before).concurrency).toBe(1);
  });

  it('keeps what a change leaves out, but not a handler of another language', () => {
    const before = configOf('f', { memoryMb: 128, handler: 'app.run', environment: { A: '1' } });
    expect(configOf('f', { cpus: 2 }, before)).toEqual({ ...before, cpus: 2 });
    expect(configOf('f', { runtime: 'python' }, before).handler).toBe('main.handler');
  });

  it.each([
    [{ isolation: 'vm' }, 'invalid_request', 'isolation must be "auto", "gvisor" or "runc".'],
    [
      { egressHosts: ['*.example.com'] },
      'invalid_request',
      'egressHosts[0] must be a host name in lower case, like "api.example.com".',
    ],
    [{ labels: { zone: 1 } }, 'invalid_request', 'labels.zone must be text.'],
    [{ labels: { zone: 'a b' } }, 'invalid_request', 'labels.zone must be at most 63 letters'],
    [{ labels: { 'a=b': 'c' } }, 'invalid_request', 'labels must have keys of 1 to 63 letters'],
    [
      { labels: Object.fromEntries(Array.from({ length: 17 }, (_, n) => [`k${n}`, ''])) },
      'invalid_request',
      'labels must be at most 16 labels.',
    ],
    [{ memoryMb: 5 }, 'invalid_request', 'memoryMb must be a whole number of megabytes from 64 to 10240.'],
    [{ memoryMb: '512' }, 'invalid_request', 'memoryMb must be'],
    [{ cpus: 17 }, 'invalid_request', 'cpus must be at most 16'],
    [{ timeoutMs: 1.5 }, 'invalid_request', 'timeoutMs must be'],
    [{ runtime: 'cobol' }, 'unsupported_runtime', 'runtime must be one of nodejs'],
    [{ route: 'a/b' }, 'invalid_name', 'route must be 1 to 64'],
    [{ httpAuth: 'none' }, 'invalid_request', 'httpAuth must be "key" or "public".'],
    [{ handler: 'a b' }, 'invalid_request', 'handler must be'],
    [{ memory: 5 }, 'invalid_request', 'There is no field "memory".'],
    [{ environment: { '1A': 'x' } }, 'invalid_request', 'environment.1A is not a variable name'],
    [{ environment: { AWS_LAMBDA_FUNCTION_NAME: 'x' } }, 'invalid_request', 'is set by the platform'],
    [{ environment: { A: 1 } }, 'invalid_request', 'environment.A must be text.'],
    [{ environment: { A: 'x'.repeat(4_096) } }, 'invalid_request', 'environment holds 4097 bytes'],
    [{ environment: { A: 'a\0b' } }, 'invalid_request', 'environment.A must be valid Unicode'],
    [{ environment: { A: '\ud800' } }, 'invalid_request', 'environment.A must be valid Unicode'],
    [{ environment: ['A'] }, 'invalid_request', 'environment must be an object'],
    [
      JSON.parse('{"environment":{"__proto__":"x"}}'),
      'invalid_request',
      'environment.__proto__ is not a variable name',
    ],
    [JSON.parse('{"__proto__":{"memoryMb":64}}'), 'invalid_request', 'There is no field "__proto__".'],
    [null, 'invalid_request', 'The body must be an object.'],
    [[], 'invalid_request', 'The body must be an object.'],
  ])('%j is refused: %s, %s', (input, code, message) => {
    expect(() => parseInput(definitionChanges, input)).toThrow(
      expect.objectContaining({ code, message: expect.stringContaining(message) }),
    );
  });

  it.each(['', 'a b', 'a/b', 'ä', 'x'.repeat(65), '..'])('the name "%s" is refused as invalid_name', (name) => {
    expect(() => parseInput(functionName, name)).toThrow(expect.objectContaining({ code: 'invalid_name' }));
  });
});

describe('inline code', () => {
  it.each([[{ source: 'x' }], [{ source: '', filename: 'src/index.mjs' }], [{ zip: 'UEs=' }]])(
    '%j is accepted',
    (code) => {
      expect(parseInput(inlineCode, code)).toEqual(code);
    },
  );

  it.each([
    [undefined, 'must be {"source"'],
    ['x', 'must be {"source"'],
    [{}, 'must be {"source"'],
    [{ source: 'x', zip: 'x' }, 'must be {"source"'],
    [{ source: 1 }, 'source must be text'],
    [{ source: 'x', filename: '../x' }, 'filename must be a relative path'],
    [{ source: 'x', filename: '/x' }, 'filename must be a relative path'],
    [{ source: 'x', filename: 'a//b' }, 'filename must be a relative path'],
    [{ source: 'x', filename: 'a/' }, 'filename must be a relative path'],
  ])('%j is refused', (code, message) => {
    expect(() => parseInput(inlineCode, code)).toThrow(
      expect.objectContaining({ message: expect.stringContaining(message) }),
    );
  });
});
