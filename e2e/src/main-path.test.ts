import { execFile } from 'node:child_process';
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { zipSync } from 'fflate';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Fleet, REPOSITORY } from './fleet/fleet.js';

/** The path that everything else stands on, as a user walks it, on each driver. */
describe.each(['docker', 'process'] as const)('the main path on the %s driver', (driver) => {
  let fleet: Fleet;
  let folder: string;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'lf-functions-'));
    fleet = await Fleet.start({ driver });
  });

  afterAll(async () => {
    await fleet?.dispose();
    await rm(folder, { recursive: true, force: true });
  });

  const deployExample = async (name: string) => {
    const copy = join(folder, name);
    await cp(join(REPOSITORY, 'examples', name), copy, { recursive: true });
    const deployed = await fleet.cli(['deploy', copy]);
    expect(deployed, deployed.stderr).toMatchObject({ code: 0 });
    return deployed;
  };

  it('deploys greet at its first start and answers by Host, by path and by the CLI', async () => {
    const byHost = await fleet.function('greet', '/?name=World');
    expect(byHost).toMatchObject({ status: 200, text: '{"message":"Hello, World!"}' });
    expect((await fleet.call({ path: '/fn/greet/?name=World' })).text).toBe('{"message":"Hello, World!"}');
    const invoked = await fleet.cli(['invoke', 'greet', '--data', '{"name":"World"}']);
    expect(invoked.stdout.trim()).toBe('{"message":"Hello, World!"}');
  });

  it('does the same with the Python example', async () => {
    const { stdout, stderr } = await deployExample('greet-python');
    expect(stderr).toContain('[1/3]');
    expect(stderr).toContain('[3/3]');
    expect(stdout).toContain(`http://greet-python.localhost:${fleet.httpPort}`);
    expect((await fleet.function('greet-python', '/?name=World')).json()).toEqual({ message: 'Hello, World!' });
    const invoked = await fleet.cli(['invoke', 'greet-python', '--data', '{"name":"World"}']);
    expect(JSON.parse(invoked.stdout)).toEqual({ message: 'Hello, World!' });
  });

  it.each(['echo', 'echo-python', 'calculator', 'calculator-python'])(
    'deploys and runs the example %s',
    async (name) => {
      await deployExample(name);
      const answer = name.startsWith('echo')
        ? await fleet.api('POST', `/api/functions/${name}/invocations`, { ping: 1 })
        : await fleet.api('POST', `/api/functions/${name}/invocations`, { operation: 'add', a: 2, b: 3 });
      expect(answer.status, answer.text).toBe(200);
      expect(answer.text).toContain(name.startsWith('echo') ? '"ping":1' : '5');
    },
  );

  it('deploys a program, and says what is wrong with one that cannot be run', async () => {
    const { stderr } = await deployExample('hello-provided');
    expect(stderr).toContain('provided, bootstrap');
    expect((await fleet.function('hello-provided', '/?name=World')).json()).toEqual({ message: 'Hello, World!' });
    const invoked = await fleet.cli(['invoke', 'hello-provided', '--data', '{"name":"you"}']);
    expect(JSON.parse(invoked.stdout)).toEqual({ message: 'Hello, you!' });
    const dir = await mkdtemp(join(folder, 'program-'));
    await writeFile(join(dir, 'bootstrap'), '#!/bin/bash\n');
    const refused = await fleet.cli(['deploy', dir, '--name', 'not-executable']);
    expect(refused.code).not.toBe(0);
    expect(refused.stderr).toMatch(/permission denied.*chmod \+x bootstrap/);
    const source = await readFile(join(REPOSITORY, 'examples/hello-provided/bootstrap'), 'utf8');
    const pasted = { runtime: 'provided', code: { source }, event: { name: 'pasted' } };
    expect((await fleet.api('POST', '/api/functions/test', pasted)).json()).toMatchObject({
      body: '{"message":"Hello, pasted!"}',
    });
  });

  it('says in the receipt that the second call reuses the sandbox', async () => {
    await fleet.function('greet', '/');
    const second = await fleet.function('greet', '/');
    expect(second.headers['x-lambda-start']).toBe('warm');
    expect(second.headers['x-lambda-outcome']).toBe('success');
    expect(second.headers['server-timing']).toMatch(/run;dur=\d/);
    expect(second.headers['x-request-id']).toMatch(/^[0-9a-f-]{36}$/);
  });

  it('lists the execution with its input, output and receipt, and its log lines in order', async () => {
    const source = `export const handler = async (event) => {
      console.log('one', event.n); console.error('two'); process.stdout.write('three\\n');
      return { n: event.n };
    };`;
    await fleet.api('PUT', '/api/functions/chatty', { code: { source } });
    const answer = await fleet.api('POST', '/api/functions/chatty/invocations', { n: 7 });
    const id = String(answer.headers['x-request-id']);
    await expect
      .poll(async () => (await fleet.api('GET', `/api/executions/${id}`)).status, { timeout: 5_000 })
      .toBe(200);
    const execution = (await fleet.api('GET', `/api/executions/${id}`)).json();
    expect(execution).toMatchObject({
      functionName: 'chatty',
      outcome: 'success',
      input: '{"n":7}',
      output: '{"n":7}',
      trigger: 'api',
    });
    const { logs } = (await fleet.api('GET', `/api/executions/${id}/logs`)).json<{ logs: { text: string }[] }>();
    const texts = logs.map((line) => line.text);
    expect(texts[0]).toContain(`START RequestId: ${id}`);
    expect(texts.slice(1, 4).map((text) => text.replace(/^.*\t/, ''))).toEqual(['one 7', 'two', 'three']);
    expect(texts.at(-1)).toMatch(/^REPORT RequestId: .*Duration: .* ms/);
  });

  it('prints log lines with the CLI, and follows them while they are written', async () => {
    const printed = await fleet.cli(['logs', 'chatty']);
    expect(printed).toMatchObject({ code: 0, stdout: expect.stringContaining('one 7') });
    const followed = await fleet.startCli(['logs', 'chatty', '-f']);
    try {
      await expect.poll(followed.output, { timeout: 10_000 }).toContain('one 7');
      await fleet.api('POST', '/api/functions/chatty/invocations', { n: 8 });
      await expect.poll(followed.output, { timeout: 10_000 }).toContain('one 8');
      expect(followed.output().match(/one 8/g)).toHaveLength(1);
    } finally {
      followed.end();
    }
  });

  it('tests code without keeping anything of it', async () => {
    const before = (await fleet.api('GET', '/api/functions')).text;
    const code = { source: "export const handler = async (event) => { console.log('testing'); return event.a + 1; };" };
    const answer = await fleet.api('POST', '/api/functions/test', { code, event: { a: 41 } });
    expect(answer.status, answer.text).toBe(200);
    expect(answer.json()).toMatchObject({ outcome: 'success', body: '42' });
    expect(answer.text).toContain('testing');
    expect((await fleet.api('GET', '/api/functions')).text).toBe(before);
  });

  it('runs a function by its route and maps its HTTP response', async () => {
    const source =
      "export const handler = async () => ({ statusCode: 201, headers: { 'x-a': 'b' }, body: { made: true } });";
    await fleet.api('PUT', '/api/functions/maker', { route: 'make-it', code: { source } });
    const answer = await fleet.api('POST', '/api/execute/make-it', {});
    expect(answer).toMatchObject({ status: 201, text: '{"made":true}' });
    expect(answer.headers['x-a']).toBe('b');
  });

  it('replaces, lists, shows and removes a function with the CLI', async () => {
    const dir = await mkdtemp(join(folder, 'life-'));
    await writeFile(join(dir, 'index.mjs'), 'export const handler = async () => 1;');
    expect((await fleet.cli(['deploy', dir, '--name', 'life'])).code).toBe(0);
    expect((await fleet.cli(['invoke', 'life'])).stdout.trim()).toBe('1');
    await writeFile(join(dir, 'index.mjs'), 'export const handler = async () => 2;');
    expect((await fleet.cli(['deploy', dir, '--name', 'life'])).code).toBe(0);
    expect((await fleet.cli(['invoke', 'life'])).stdout.trim()).toBe('2');
    expect((await fleet.cli(['ls'])).stdout).toContain('life');
    const shown = await fleet.cli(['get', 'life', '-o', 'json']);
    expect(JSON.parse(shown.stdout)).toMatchObject({ name: 'life', version: 2 });
    expect((await fleet.cli(['rm', 'life', '-y'])).code).toBe(0);
    expect((await fleet.cli(['invoke', 'life'])).code).toBe(3);
  });

  it.each(['zip', 'tar.gz'])('deploys an archive as %s', async (format) => {
    const name = `from-${format.replace('.', '-')}`;
    const code = `export const handler = async () => '${format}';`;
    const archive = join(folder, `${name}.${format}`);
    if (format === 'zip') {
      await writeFile(archive, zipSync({ 'index.mjs': Buffer.from(code) }));
    } else {
      const dir = await mkdtemp(join(folder, 'tar-'));
      await writeFile(join(dir, 'index.mjs'), code);
      await promisify(execFile)('tar', ['-czf', archive, '-C', dir, '.']);
    }
    const deployed = await fleet.cli(['deploy', archive, '--name', name, '--runtime', 'nodejs']);
    expect(deployed, deployed.stderr).toMatchObject({ code: 0 });
    expect((await fleet.cli(['invoke', name])).stdout).toBe(`"${format}"`);
    expect((await fleet.cli(['list', '-o', 'name'])).stdout).toContain(name);
    expect((await fleet.cli(['delete', name, '-y'])).code).toBe(0);
  });

  it('carries a payload of six megabytes both ways', async () => {
    await fleet.api('PUT', '/api/functions/mirror', {
      code: { source: 'export const handler = async (event) => event;' },
      memoryMb: 512,
    });
    const text = JSON.stringify('x'.repeat(5_900_000));
    const headers = { authorization: `Bearer ${await fleet.apiKey()}` };
    const answer = await fleet.call({ path: '/api/functions/mirror/invocations', headers, body: text });
    expect(answer.status).toBe(200);
    expect(answer.text).toBe(text);
  });

  it('shows its node with what it offers', async () => {
    const { nodes } = (await fleet.api('GET', '/api/nodes')).json<{ nodes: Record<string, unknown>[] }>();
    expect(nodes).toHaveLength(1);
    expect(nodes[0]).toMatchObject({ id: 'node-1', connected: true, eligible: true });
    expect(JSON.stringify(nodes[0])).toContain(driver === 'docker' ? 'runc' : 'none');
  });

  it('exposes metrics in which the invocations are counted', async () => {
    const { text } = await fleet.call({ path: '/metrics' });
    expect(text).toMatch(/lambda_invocations_total\{[^}]*function="greet"[^}]*outcome="success"[^}]*\} \d+/);
  });
});
