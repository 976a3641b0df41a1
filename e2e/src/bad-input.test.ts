import { zipSync } from 'fflate';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { Fleet } from './fleet/fleet.js';
import type { HttpAnswer } from './fleet/http-call.js';

/** Whatever a caller or a function does wrong: one clear error with a code, and the next call works. */
describe.each(['docker', 'process'] as const)('bad input on the %s driver', (driver) => {
  let fleet: Fleet;

  beforeAll(async () => {
    fleet = await Fleet.start({ driver });
  });

  afterAll(async () => {
    await fleet?.dispose();
  });

  afterEach(async () => {
    expect((await fleet.function('greet', '/?name=World')).text).toBe('{"message":"Hello, World!"}');
  });

  const errorOf = (answer: HttpAnswer) => {
    const { error } = answer.json<{
      error: { code: string; message: string; requestId: string; details?: Record<string, unknown> };
    }>();
    expect(error.requestId).toBe(answer.headers['x-request-id']);
    expect(error.message.length).toBeGreaterThan(10);
    return { status: answer.status, code: error.code, message: error.message, details: error.details };
  };

  const deploy = (name: string, source: string, definition: Record<string, unknown> = {}) =>
    fleet.api('PUT', `/api/functions/${name}`, { ...definition, code: { source } });

  const invoke = (name: string, event: unknown = {}) => fleet.api('POST', `/api/functions/${name}/invocations`, event);

  const deployAndInvoke = async (name: string, source: string, definition: Record<string, unknown> = {}) => {
    const deployed = await deploy(name, source, definition);
    expect(deployed.status, deployed.text).toBe(201);
    return errorOf(await invoke(name));
  };

  it('names an unknown function, also through the gateway', async () => {
    expect(errorOf(await invoke('nobody'))).toMatchObject({ status: 404, code: 'function_not_found' });
    expect(errorOf(await fleet.function('nobody', '/'))).toMatchObject({ status: 404 });
    expect(errorOf(await fleet.call({ path: '/fn/nobody/' }))).toMatchObject({ status: 404 });
  });

  it.each(['bad name', 'x'.repeat(65), 'a/b', '../up', 'é'])('refuses the function name %j', async (name) => {
    const source = 'export const handler = async () => 1;';
    const created = await fleet.api('POST', '/api/functions', { name, code: { source } });
    expect(errorOf(created)).toMatchObject({ status: 400, code: 'invalid_name' });
  });

  it('refuses JavaScript that does not parse, with its line and column, and makes no version of it', async () => {
    const refused = errorOf(await deploy('broken', 'export const handler = async () => {\n  return 1 +;\n};\n'));
    expect(refused).toMatchObject({ status: 400, code: 'code_syntax_error', details: { line: 2, column: 13 } });
    expect(errorOf(await invoke('broken'))).toMatchObject({ code: 'function_not_found' });
  });

  it('refuses Python that does not parse, with its line and column', async () => {
    const refused = errorOf(await deploy('broken-py', 'def handler(event):\n    return 1 +\n', { runtime: 'python' }));
    expect(refused).toMatchObject({ status: 400, code: 'code_syntax_error', details: { line: 2 } });
    expect(refused.details?.column).toBeGreaterThan(1);
  });

  it('keeps the working version when its replacement does not parse', async () => {
    expect((await deploy('steady', 'export const handler = async () => 1;')).status).toBe(201);
    expect((await deploy('steady', 'export const handler = (')).status).toBe(400);
    expect((await invoke('steady')).text).toBe('1');
  });

  it('refuses code without the handler, and says what it exports', async () => {
    const refused = errorOf(await deploy('nohandler', 'export const main = async () => 1;'));
    expect(refused).toMatchObject({ status: 400, code: 'handler_not_found' });
    expect(refused.message).toContain('main');
  });

  it('accepts code that throws while it loads, with a warning, and reports its error at each call', async () => {
    const deployed = await deploy(
      'moody',
      "throw new TypeError('no configuration');\nexport const handler = async () => 1;",
    );
    expect(deployed.status, deployed.text).toBe(201);
    expect(deployed.json<{ warnings: string[] }>().warnings.join()).toContain('no configuration');
    expect(errorOf(await invoke('moody'))).toMatchObject({
      status: 502,
      code: 'function_error',
      details: { errorType: 'TypeError' },
    });
  });

  it('reports a handler that throws, with type, message and trace', async () => {
    const failed = await deployAndInvoke(
      'thrower',
      "export const handler = async () => { throw new RangeError('too far'); };",
    );
    expect(failed).toMatchObject({
      status: 502,
      code: 'function_error',
      details: { errorType: 'RangeError', errorMessage: 'too far' },
    });
    expect(JSON.stringify(failed.details?.trace)).toContain('index.mjs');
  });

  it('reports a result that is not JSON', async () => {
    const failed = await deployAndInvoke(
      'cyclic',
      'export const handler = async () => { const a = {}; a.a = a; return a; };',
    );
    expect(failed).toMatchObject({ status: 502, details: { errorType: 'Runtime.MarshalError' } });
  });

  it('reports a handler that exits the process, with its status', async () => {
    const failed = await deployAndInvoke('quitter', 'export const handler = async () => { process.exit(3); };');
    expect(failed).toMatchObject({ status: 502, details: { errorType: 'Runtime.ExitError' } });
    expect(failed.details?.errorMessage).toContain('exit status 3');
  });

  it('stops a handler at its timeout, also one that never yields', async () => {
    const asleep = await deployAndInvoke(
      'sleeper',
      'export const handler = () => new Promise(() => setInterval(() => {}, 1e3));',
      { timeoutMs: 500 },
    );
    expect(asleep).toMatchObject({ status: 504, code: 'timeout', details: { errorType: 'Sandbox.Timedout' } });
    expect(asleep.details?.errorMessage).toContain('Task timed out after 0.50 seconds');
    const spinning = await deployAndInvoke('spinner', 'export const handler = async () => { for (;;); };', {
      timeoutMs: 500,
    });
    expect(spinning).toMatchObject({ status: 504, code: 'timeout' });
  });

  it('says that a function used more memory than it may, on the heap and beside it', async () => {
    const heap =
      'export const handler = async () => { const a = []; for (;;) a.push(new Array(1000).fill(a.length)); };';
    const onHeap = await deployAndInvoke('heap', heap, { memoryMb: 128, timeoutMs: 60_000 });
    expect(onHeap).toMatchObject({ status: 502, details: { errorType: 'Runtime.OutOfMemory' } });
    expect(onHeap.details?.errorMessage).toContain('128 MB');
    const buffers = `export const handler = async () => {
      const a = []; for (;;) { a.push(Buffer.alloc(8e6, 1)); await new Promise((r) => setTimeout(r, 5)); }
    };`;
    const offHeap = await deployAndInvoke('buffers', buffers, { memoryMb: 128, timeoutMs: 60_000 });
    expect(offHeap).toMatchObject({ status: 502, details: { errorType: 'Runtime.OutOfMemory' } });
  });

  it('refuses a payload over 6 MB before it has read it', async () => {
    const headers = { authorization: `Bearer ${await fleet.apiKey()}` };
    const path = '/api/functions/greet/invocations';
    const answer = await fleet.call({ path, headers, body: Buffer.alloc(6 * 1024 * 1024 + 1, ' ') });
    expect(errorOf(answer)).toMatchObject({ status: 413, code: 'payload_too_large' });
  });

  it('reports a response over its limit', async () => {
    const failed = await deployAndInvoke('verbose', "export const handler = async () => 'x'.repeat(7e6);");
    expect(failed).toMatchObject({ status: 502, details: { errorType: 'Function.ResponseSizeTooLarge' } });
  });

  it('refuses an event that is not JSON', async () => {
    const headers = { authorization: `Bearer ${await fleet.apiKey()}` };
    const answer = await fleet.call({ path: '/api/functions/greet/invocations', headers, body: '{"name":' });
    expect(errorOf(answer).details).toMatchObject({ errorType: 'Runtime.InvalidEvent' });
  });

  it.each([
    ['with ../', { '../evil.mjs': 'x' }],
    ['with an absolute path', { '/etc/evil': 'x' }],
  ])('refuses an archive %s', async (_what, files) => {
    const entries = Object.fromEntries(Object.entries(files).map(([name, text]) => [name, Buffer.from(text)]));
    const zip = Buffer.from(zipSync({ 'index.mjs': Buffer.from('export const handler = async () => 1;'), ...entries }));
    const answer = await fleet.api('PUT', '/api/functions/evil', { code: { zip: zip.toString('base64') } });
    expect(errorOf(answer)).toMatchObject({ status: 400, code: 'invalid_archive' });
  });

  it.each([
    ['no key', {}],
    ['a wrong key', { authorization: 'Bearer lf_aaaaaaaaaa_wrong' }],
    ['another scheme', { authorization: 'Basic eDp5' }],
  ])('refuses %s', async (_what, headers: Record<string, string>) => {
    for (const path of ['/api/functions', '/api/executions', '/api/nodes']) {
      expect(errorOf(await fleet.call({ path, headers }))).toMatchObject({ status: 401, code: 'unauthorized' });
    }
    const call = { path: '/api/functions/greet/invocations', headers, body: '{}' };
    expect(errorOf(await fleet.call(call))).toMatchObject({ status: 401, code: 'unauthorized' });
  });

  it('asks for a key at a function whose trigger is not public', async () => {
    await deploy('private', 'export const handler = async () => 1;');
    expect(errorOf(await fleet.function('private', '/'))).toMatchObject({ status: 401 });
    const headers = { 'x-api-key': await fleet.apiKey() };
    expect((await fleet.function('private', '/', { headers })).status).toBe(200);
  });
});
