import { spawn } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { unzipSync } from 'fflate';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

const LAMBDA = fileURLToPath(new URL('../bin/lambda.mjs', import.meta.url));
const KEY = 'test-key';

interface Received {
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingMessage['headers'];
  readonly body: Buffer;
}

type Answer = (request: Received, response: ServerResponse) => void;

let server: Server;
let folder: string;
let received: Received[];
let answer: Answer;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lambda-cli-'));
  received = [];
  server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const whole = {
        method: request.method ?? '',
        url: request.url ?? '',
        headers: request.headers,
        body: Buffer.concat(chunks),
      };
      received.push(whole);
      if (request.headers.authorization !== `Bearer ${KEY}`) error(response, 401, 'unauthorized', 'The key is wrong.');
      else answer(whole, response);
    });
  });
  await new Promise<void>((ready) => server.listen(0, '127.0.0.1', ready));
});

afterEach(async () => {
  server.closeAllConnections();
  await new Promise((closed) => server.close(closed));
  await rm(folder, { recursive: true, force: true });
});

interface Result {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

const endpoint = () => `http://127.0.0.1:${(server.address() as AddressInfo).port}`;

/** Runs the built command against the server of this test. */
function lambda(
  args: readonly string[],
  options: { input?: string | Buffer; key?: string; endpoint?: string } = {},
): Promise<Result> {
  const child = spawn(process.execPath, [LAMBDA, ...args], {
    cwd: folder,
    env: {
      PATH: process.env.PATH,
      HOME: folder,
      LAMBDA_ENDPOINT: options.endpoint ?? endpoint(),
      LAMBDA_API_KEY: options.key ?? KEY,
    },
  });
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  child.stdin.end(options.input ?? '');
  return new Promise((settle) => child.once('close', (status) => settle({ status, stdout, stderr })));
}

function json(response: ServerResponse, status: number, body: unknown, headers = {}): void {
  response.writeHead(status, { 'content-type': 'application/json', ...headers });
  response.end(JSON.stringify(body));
}

function error(response: ServerResponse, status: number, code: string, message: string, details = {}): void {
  json(response, status, { error: { code, message, requestId: 'r-1', details } });
}

const GREET = {
  name: 'greet',
  url: 'http://greet.localhost:8080',
  version: 3,
  runtime: 'nodejs',
  handler: 'index.handler',
  memoryMb: 128,
  timeoutMs: 30_000,
  updatedAt: '2026-01-02T03:04:05.000Z',
};

describe('exit statuses', () => {
  it.each([
    ['an unknown command', ['nope'], 2],
    ['an unknown option', ['ls', '--nope'], 2],
    ['a missing argument', ['invoke'], 2],
    ['an invalid name', ['invoke', 'a b'], 2],
    ['a key that is no ASCII', ['invoke', 'greet', '--idempotency-key', 'é'], 2],
    ['an empty key', ['jobs', 'run', 'x.js', '--idempotency-key', ''], 2],
    ['an invalid number', ['deploy', '--memory', '1'], 2],
    ['an event that is not JSON', ['invoke', 'greet', '--data', '{'], 2],
    ['an event file that is not there', ['invoke', 'greet', '--data', '@nope.json'], 2],
    ['a folder that is not there', ['deploy', 'nope'], 2],
    ['help', ['--help'], 0],
    ['the version', ['--version'], 0],
  ])('%s: %j ends with %i and asks no server', async (_what, args, status) => {
    expect((await lambda(args)).status).toBe(status);
    expect(received).toEqual([]);
  });

  it.each([
    [404, 'function_not_found', 3],
    [403, 'forbidden', 4],
    [409, 'conflict', 5],
    [429, 'throttled', 5],
    [503, 'not_started', 5],
    [502, 'function_error', 6],
    [504, 'timeout', 7],
    [500, 'internal', 1],
    [500, 'a_code_of_a_newer_server', 1],
  ])(
    'a %i %s ends with %i, its message on standard error and nothing on standard output',
    async (status, code, exit) => {
      answer = (_request, response) => error(response, status, code, `What ${code} says.`);
      const result = await lambda(['invoke', 'greet']);
      expect(result).toMatchObject({ status: exit, stdout: '' });
      expect(result.stderr).toContain(`What ${code} says.`);
    },
  );

  it('a wrong key ends with 4 and says where the key came from', async () => {
    const result = await lambda(['ls'], { key: 'wrong' });
    expect(result.status).toBe(4);
    expect(result.stderr).toContain('came from LAMBDA_ENDPOINT');
  });

  it('no server ends with 1 and names the endpoint and the next command', async () => {
    const result = await lambda(['ls'], { endpoint: 'http://127.0.0.1:9' });
    expect(result.status).toBe(1);
    expect(result.stderr).toMatch(
      /Nothing answers at http:\/\/127\.0\.0\.1:9 \(endpoint from LAMBDA_ENDPOINT\)[\s\S]*lambda up/,
    );
  });

  it('a deadline of the command ends with 7', async () => {
    answer = () => {};
    expect((await lambda(['invoke', 'greet', '--deadline', '100ms'])).status).toBe(7);
  });

  it('a server that is something else is said to be that', async () => {
    answer = (_request, response) => response.end('<html>');
    const result = await lambda(['ls']);
    expect(result.status).toBe(1);
    expect(result.stderr).toContain('Lambda Fleet API');
  });
});

describe('lambda invoke', () => {
  it('writes the body byte for byte and the receipt to standard error', async () => {
    const body = ' {"message": "Hello, žluť!"} ';
    answer = (_request, response) => {
      response.writeHead(200, {
        'x-lambda-outcome': 'success',
        'x-lambda-start': 'warm',
        'x-lambda-node': 'node-1',
        'server-timing': 'run;dur=1.3, total;dur=2.1',
      });
      response.end(body);
    };
    const result = await lambda(['invoke', 'greet', '-v', '--data', '{"name":"World"}']);
    expect(result).toMatchObject({ status: 0, stdout: body });
    expect(result.stderr).toMatch(/success {2}warm {2}2\.1 ms \(run 1\.3\) {2}on node-1/);
    expect(received[0]).toMatchObject({ method: 'POST', url: '/api/functions/greet/invocations' });
    expect(received[0]?.body.toString()).toBe('{"name":"World"}');
  });

  it('sends an idempotency key, and says of a receipt that it is an earlier one', async () => {
    answer = (_request, response) => json(response, 200, null);
    await lambda(['invoke', 'greet']);
    answer = (_request, response) => {
      response.writeHead(200, { 'x-lambda-outcome': 'success', 'idempotent-replayed': 'true' });
      response.end('1');
    };
    const result = await lambda(['invoke', 'greet', '-v', '--idempotency-key', 'order 17']);
    expect(result.stderr).toContain('success  replayed');
    expect(received.map(({ headers }) => headers['idempotency-key'])).toEqual([undefined, 'order 17']);
    answer = (_request, response) => error(response, 422, 'idempotency_mismatch', 'It was used.');
    expect((await lambda(['invoke', 'greet', '--idempotency-key', 'x'])).status).toBe(5);
  });

  it('takes the event from a file and from standard input', async () => {
    answer = (_request, response) => json(response, 200, null);
    await writeFile(join(folder, 'event.json'), '{"from":"file"}');
    await lambda(['invoke', 'greet', '-d', '@event.json']);
    await lambda(['invoke', 'greet', '-d', '-'], { input: '{"from":"stdin"}' });
    expect(received.map(({ body }) => body.toString())).toEqual(['{"from":"file"}', '{"from":"stdin"}']);
  });

  it('refuses an event over 6 MB before it is sent', async () => {
    const result = await lambda(['invoke', 'greet', '-d', '-'], { input: `"${'x'.repeat(6 * 1024 * 1024)}"` });
    expect(result.status).toBe(2);
    expect(received).toEqual([]);
  });

  it("shows a function's error with its trace, without escape sequences", async () => {
    const details = {
      errorType: 'TypeError',
      errorMessage: 'bad \u001b[31mthing',
      trace: ['TypeError: bad', ' at index.mjs:3:7'],
    };
    answer = (_request, response) => error(response, 502, 'function_error', 'The function failed.', details);
    const result = await lambda(['invoke', 'greet']);
    expect(result.stderr).toContain('TypeError: bad thing\n  at index.mjs:3:7\n');
    expect(result.stderr).not.toContain('\u001b');
  });
});

describe('lambda invoke --async', () => {
  const ID = '019a3c52-8d0e-7c1b-b0f4-6a3a5a1e9c11';

  it('prints the id alone on standard output, and how to look at it', async () => {
    answer = (_request, response) => json(response, 202, { id: ID, function: 'greet', status: 'queued' });
    const result = await lambda([
      'invoke',
      'greet',
      '--async',
      '--idempotency-key',
      'k1',
      '-d',
      '{"n": 12345678901234567890}',
    ]);
    expect(result).toMatchObject({ status: 0, stdout: `${ID}\n` });
    expect(result.stderr).toContain(`lambda queue get ${ID}`);
    expect(received[0]).toMatchObject({ method: 'POST', url: '/api/functions/greet/invocations?mode=async' });
    expect(received[0]?.headers['idempotency-key']).toBe('k1');
    expect(received[0]?.body.toString()).toBe('{"n": 12345678901234567890}');
  });

  it('refuses an event over 1 MB before it is sent', async () => {
    const event = (length: number) => `"${'x'.repeat(length - 2)}"`;
    const result = await lambda(['invoke', 'greet', '--async', '-d', '-'], { input: event(1024 * 1024 + 1) });
    expect(result).toMatchObject({
      status: 2,
      stdout: '',
      stderr: expect.stringContaining('at most 1048576 (1.0 MB)'),
    });
    expect(received).toEqual([]);
    answer = (_request, response) => json(response, 202, { id: ID, status: 'queued' });
    expect((await lambda(['invoke', 'greet', '--async', '-d', '-'], { input: event(1024 * 1024) })).status).toBe(0);
  });

  it.each([
    [404, 'function_not_found', 3],
    [413, 'payload_too_large', 2],
    [429, 'throttled', 5],
    [503, 'unavailable', 5],
  ])('a %i %s ends with %i', async (status, code, exit) => {
    answer = (_request, response) => error(response, status, code, 'It says why.');
    const result = await lambda(['invoke', 'greet', '--async']);
    expect(result).toMatchObject({ status: exit, stdout: '', stderr: expect.stringContaining('It says why.') });
  });
});

describe('lambda deploy', () => {
  const store: Answer = ({ method }, response) => {
    if (method === 'GET') error(response, 404, 'function_not_found', 'No such function.');
    else json(response, 201, { ...GREET, warnings: ['It threw while loading.'] });
  };

  /** The parts of a multipart upload, by name. */
  async function parts(request: Received | undefined): Promise<FormData> {
    const headers = { 'content-type': request?.headers['content-type'] ?? '' };
    return await new Response(new Uint8Array(request?.body ?? Buffer.alloc(0)), { headers }).formData();
  }

  async function project(files: Readonly<Record<string, string>>): Promise<void> {
    await mkdir(join(folder, 'greet'), { recursive: true });
    for (const [name, text] of Object.entries(files)) await writeFile(join(folder, 'greet', name), text);
  }

  it('packs, uploads and checks, and ends with the URL alone on standard output', async () => {
    answer = store;
    await project({ 'lambda.json': '{ "memoryMb": 128, "environment": { "A": "1" } }', 'index.mjs': 'code' });
    const result = await lambda(['deploy', 'greet', '--timeout', '500ms', '--public', '-e', 'B=2=3']);
    expect(result).toMatchObject({ status: 0, stdout: 'http://greet.localhost:8080\n' });
    expect(result.stderr).toMatch(
      /\[1\/3\] Packing … 1 file[\s\S]*\[2\/3\] Uploading … done\n\[3\/3\] Checking … version 3/,
    );
    expect(result.stderr).toContain('warning: It threw while loading.');
    const form = await parts(received[1]);
    expect(received[1]).toMatchObject({ method: 'PUT', url: '/api/functions/greet' });
    expect(JSON.parse(await (form.get('definition') as File).text())).toEqual({
      name: 'greet',
      runtime: 'nodejs',
      handler: 'index.handler',
      memoryMb: 128,
      timeoutMs: 500,
      httpAuth: 'public',
      environment: { A: '1', B: '2=3' },
    });
    const archive = form.get('archive') as File;
    expect(archive.type).toBe('application/zip');
    expect(Object.keys(unzipSync(new Uint8Array(await archive.arrayBuffer())))).toEqual(['index.mjs']);
  });

  it("leaves an existing function's runtime alone when nothing says otherwise", async () => {
    answer = (_request, response) => json(response, 200, { ...GREET, runtime: 'nodejs20.x' });
    await project({ 'index.mjs': 'code' });
    expect((await lambda(['deploy', 'greet'])).status).toBe(0);
    const definition = (await parts(received[1])).get('definition') as File;
    expect(JSON.parse(await definition.text())).toEqual({ name: 'greet' });
  });

  it('sets the limits of lambda.json after the deploy, and says that it is deployed when they are refused', async () => {
    const lambdaJson = '{"limits":{"reserved":950}}';
    await project({ 'index.mjs': 'export const handler = async () => 1;', 'lambda.json': lambdaJson });
    answer = ({ method, url }, response) => {
      if (method === 'GET') error(response, 404, 'function_not_found', 'None.');
      else if (!url.endsWith('/concurrency')) json(response, 201, GREET);
      else error(response, 409, 'conflict', 'At most 900 can be reserved.');
    };
    const { status, stderr } = await lambda(['deploy', 'greet']);
    expect(status).not.toBe(0);
    expect(stderr).toMatch(/greet is deployed, but "limits"[\s\S]*At most 900/);
    expect(received[1]?.body.toString('latin1')).not.toContain('"limits"');
    expect(JSON.parse(received[2]?.body.toString() ?? '')).toEqual({ reserved: 950 });
  });

  it('says after the deploy how async invocations are tried, and that it is deployed when that is refused', async () => {
    const lambdaJson = '{"async":{"retries":1,"onFailure":{"function":"alert"}}}';
    await project({ 'index.mjs': 'export const handler = async () => 1;', 'lambda.json': lambdaJson });
    const settings = { retries: 1, retryDelaysMs: [1_000], maxAgeMs: 60_000, onSuccess: null, onFailure: null };
    let refused = false;
    answer = ({ method }, response) => {
      if (method === 'GET') error(response, 404, 'function_not_found', 'None.');
      else if (method === 'PUT') json(response, 201, GREET);
      else if (refused) error(response, 400, 'invalid_request', 'onFailure.function names no function.');
      else json(response, 200, settings);
    };
    const result = await lambda(['deploy', 'greet']);
    expect(result).toMatchObject({ status: 0, stdout: `${GREET.url}\n` });
    expect(received[1]?.body.toString('latin1')).not.toContain('"async"');
    expect(received[2]).toMatchObject({ method: 'PATCH', url: '/api/functions/greet/async' });
    expect(JSON.parse(received[2]?.body.toString() ?? '')).toEqual({ retries: 1, onFailure: { function: 'alert' } });
    refused = true;
    const half = await lambda(['deploy', 'greet']);
    expect(half).toMatchObject({ status: 2, stdout: '' });
    expect(half.stderr).toMatch(/greet is deployed, but "async"[\s\S]*names no function/);
  });

  it('uploads an archive as it is', async () => {
    answer = store;
    const archive = Buffer.from('504b0304000000000000', 'hex');
    await writeFile(join(folder, 'thing.zip'), archive);
    expect((await lambda(['deploy', 'thing.zip', '--runtime', 'python'])).status).toBe(0);
    const uploaded = (await parts(received.at(-1))).get('archive') as File;
    expect(Buffer.from(await uploaded.arrayBuffer())).toEqual(archive);
    expect(received.at(-1)?.url).toBe('/api/functions/thing');
  });

  it.each([
    [
      'a lambda.json with a mistake',
      { 'lambda.json': '{\n"memory": 1 }', 'index.mjs': '' },
      'lambda.json:2: unknown field "memory"',
    ],
    ['a folder without code', { 'README.md': '' }, 'none of the files'],
  ])('refuses %s and uploads nothing', async (_what, files, message) => {
    answer = store;
    await project(files);
    const result = await lambda(['deploy', 'greet']);
    expect(result).toMatchObject({ status: 2, stdout: '' });
    expect(result.stderr).toContain(message);
    expect(received.every(({ method }) => method === 'GET')).toBe(true);
  });

  it('refuses a file that is no archive', async () => {
    await writeFile(join(folder, 'notes.txt'), 'hello');
    const result = await lambda(['deploy', 'notes.txt']);
    expect(result.status).toBe(2);
    expect(result.stderr).toContain('neither a folder nor');
  });
});

describe('lambda ls, get and rm', () => {
  it('follows the pages and prints tables, JSON and names', async () => {
    answer = ({ url }, response) => {
      const second = url.includes('cursor=next');
      json(response, 200, { functions: [{ ...GREET, name: second ? 'b' : 'a' }], nextCursor: second ? null : 'next' });
    };
    expect((await lambda(['ls', '-o', 'name'])).stdout).toBe('a\nb\n');
    expect(JSON.parse((await lambda(['list', '-o', 'json'])).stdout)).toHaveLength(2);
    const lines = (await lambda(['ls'])).stdout.split('\n');
    expect(lines[0]).toMatch(/^NAME {3}RUNTIME {3}MEMORY/);
    expect(lines[1]).toMatch(/^a {6}nodejs {4}128 MB/);
  });

  it('shows one function', async () => {
    answer = (_request, response) => json(response, 200, GREET);
    expect(JSON.parse((await lambda(['get', 'greet', '-o', 'json'])).stdout)).toEqual(GREET);
    expect((await lambda(['get', 'greet'])).stdout).toContain('memoryMb    128');
  });

  it('removes without a question when there is no terminal', async () => {
    answer = (_request, response) => response.writeHead(204).end();
    const result = await lambda(['rm', 'a', 'b']);
    expect(result).toMatchObject({ status: 0, stdout: '' });
    expect(received.map(({ method, url }) => `${method} ${url}`)).toEqual([
      'DELETE /api/functions/a',
      'DELETE /api/functions/b',
    ]);
  });
});

describe('lambda logs', () => {
  const line = (id: number, text: string) => ({
    id,
    executionId: 'e',
    at: '2026-01-02T03:04:05.000Z',
    stream: 'stdout',
    level: null,
    text,
  });

  it('prints lines without escape sequences unless they are asked for', async () => {
    answer = (_request, response) => json(response, 200, { logs: [line(1, '\u001b[31mred\u001b[0m')], lastId: 1 });
    expect((await lambda(['logs', 'greet'])).stdout).toBe('2026-01-02 03:04:05.000  red\n');
    expect((await lambda(['logs', 'greet', '--raw'])).stdout).toContain('\u001b[31mred');
    expect((await lambda(['logs', 'greet', '--since', '10m', '--limit', '5'])).status).toBe(0);
    expect(received.at(-1)?.url).toMatch(/\?limit=5&since=20\d\d-/);
  });

  it('goes on after a lost connection with the line after the last one, and ends when the function is gone', async () => {
    let streams = 0;
    answer = ({ url }, response) => {
      if (!url.includes('follow=true')) return json(response, 200, { logs: [line(1, 'one')], lastId: 1 });
      streams += 1;
      if (streams === 3) return error(response, 404, 'function_not_found', 'It was removed.');
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      const id = streams + 1;
      response.write(`id: ${id}\nevent: log\ndata: ${JSON.stringify(line(id, `number ${id}`))}\n\n`);
      response.write('data: half an event', () => response.destroy());
    };
    const result = await lambda(['logs', 'greet', '-f']);
    expect(result.status).toBe(3);
    expect(result.stdout.match(/one|number \d/g)).toEqual(['one', 'number 2', 'number 3']);
    expect(received.slice(1).map(({ headers }) => headers['last-event-id'])).toEqual(['1', '2', '3']);
  });
});

describe('lambda jobs', () => {
  const QUEUED = {
    ...{ id: '019a3c52-8d0e-7c1b-b0f4-6a3a5a1e9c11', status: 'queued', outcome: null, runtime: 'nodejs', attempts: 0 },
    ...{ reason: null, createdAt: '2026-01-02T03:04:05.000Z', startedAt: null, finishedAt: null },
  };
  const ENDED = {
    ...{ ...QUEUED, status: 'succeeded', outcome: 'success', attempts: 1, startedAt: '2026-01-02T03:04:05.100Z' },
    ...{ finishedAt: '2026-01-02T03:04:06.600Z', logs: [], error: null },
  };
  const LINE = { id: 1, executionId: 'e', at: '2026-01-02T03:04:06Z', stream: 'stdout', level: 'INFO', text: '' };
  const CODE = 'return "\u2028" + args.n;\n';
  /** A server whose job has ended when it is asked for the second time. */
  const server =
    (ended: object, result = '1'): Answer =>
    ({ method, url }, response) => {
      if (method === 'POST') json(response, 202, QUEUED);
      else if (url.endsWith('/result')) response.end(result);
      else json(response, 200, received.filter((request) => request.method === 'GET').length < 2 ? QUEUED : ended);
    };

  it('sends a file with its arguments as they are and prints the id', async () => {
    answer = server(ENDED);
    await writeFile(join(folder, 'job.js'), CODE);
    const args = '{"n": 12345678901234567890}';
    const flags = ['--timeout', '5s', '--memory', '128', '--retries', '2'];
    const result = await lambda(['jobs', 'run', 'job.js', '--args', args, ...flags]);
    expect(result).toEqual({ status: 0, stdout: `${QUEUED.id}\n`, stderr: '' });
    expect(received[0]).toMatchObject({ method: 'POST', url: '/api/jobs' });
    const body = received[0]?.body.toString() ?? '';
    expect(body).toContain(args);
    expect(JSON.parse(body)).toMatchObject({ code: CODE, timeoutMs: 5_000, memoryMb: 128, retries: 2 });
    expect(JSON.parse(body)).not.toHaveProperty('runtime');
  });

  it("tells Python by the file's name, and takes code from standard input", async () => {
    answer = server(ENDED);
    await writeFile(join(folder, 'job.py'), 'result = args');
    await lambda(['jobs', 'run', 'job.py', '--idempotency-key', 'k1']);
    expect(received[0]?.headers['idempotency-key']).toBe('k1');
    await lambda(['jobs', 'run', '-', '--runtime', 'python3.11'], { input: 'result = 1' });
    const bodies = received.map(({ body }) => JSON.parse(body.toString()) as unknown);
    expect(bodies).toEqual([
      { code: 'result = args', runtime: 'python', args: {} },
      { code: 'result = 1', runtime: 'python3.11', args: {} },
    ]);
  });

  it('waits for the end, prints the result byte for byte, and log lines on standard error', async () => {
    answer = server({ ...ENDED, logs: [{ ...LINE, text: 'working \u001b[31mhard' }] }, ' {"n":12345678901234567890} ');
    await writeFile(join(folder, 'job.js'), CODE);
    const result = await lambda(['jobs', 'run', 'job.js', '--wait']);
    expect(result).toMatchObject({ status: 0, stdout: ' {"n":12345678901234567890} ' });
    expect(result.stderr).toBe(`${QUEUED.id}\nworking hard\n`);
    expect(received[1]?.url).toBe(`/api/jobs/${QUEUED.id}?waitMs=20000`);
  });

  it('goes on waiting while the server is away', async () => {
    let asked = 0;
    answer = (request, response) => {
      asked += 1;
      if (asked === 2) response.destroy();
      else if (asked === 3) error(response, 503, 'unavailable', 'The database is away.');
      else server(ENDED, '"done"')(request, response);
    };
    await writeFile(join(folder, 'job.js'), CODE);
    const result = await lambda(['jobs', 'run', 'job.js', '--wait']);
    expect(result).toMatchObject({ status: 0, stdout: '"done"' });
    expect(result.stderr.match(/trying again/g)).toHaveLength(1);
  });

  const failed = (outcome: string, error: object | null = { errorType: 'TypeError', errorMessage: 'no\u001b[0m' }) => ({
    ...{ ...ENDED, status: 'failed', outcome, error: error && { ...error, trace: ['TypeError: no', 'at job.js:1:7'] } },
  });
  it.each([
    ['failed', failed('function_error'), 6, 'TypeError: no\n  at job.js:1:7\n'],
    ['could not be started', failed('not_started'), 5, 'TypeError'],
    ['may have run', failed('outcome_unknown'), 1, 'TypeError'],
    ['timed out', { ...failed('timeout'), status: 'timed_out' }, 7, 'timed out'],
    ['was cancelled', { ...failed('outcome_unknown', null), status: 'cancelled' }, 1, 'was cancelled'],
  ])(
    'a job that %s ends with its status, and prints nothing on standard output',
    async (_what, ended, status, text) => {
      answer = server(ended);
      await writeFile(join(folder, 'job.js'), CODE);
      const result = await lambda(['jobs', 'run', 'job.js', '--wait']);
      expect(result).toMatchObject({ status, stdout: '' });
      expect(result.stderr).toContain(text);
      expect(result.stderr).not.toContain('\u001b');
    },
  );

  it('a deadline ends the waiting and not the job', async () => {
    answer = ({ method }, response) =>
      json(response, 200, method === 'POST' ? QUEUED : { ...QUEUED, status: 'running' });
    await writeFile(join(folder, 'job.js'), CODE);
    const result = await lambda(['jobs', 'run', 'job.js', '--wait', '--deadline', '50ms']);
    expect(result).toMatchObject({ status: 7, stdout: '' });
    expect(result.stderr).toContain(`lambda jobs get ${QUEUED.id}`);
    expect(received.every(({ url }) => !url.includes('cancel'))).toBe(true);
  });

  it.each([
    [['nope.js'], ''],
    [['-', '--args', '-'], ''],
    [['-', '--args', '{'], ''],
    [['-', '--args', '@nope.json'], ''],
    [['-', '--retries', '6'], ''],
    [['-'], 'x'.repeat(256 * 1024 + 1)],
    [['-'], Buffer.from([0x22, 0xff])],
  ])('jobs run %j is a mistake in the arguments, and asks no server', async (args, input) => {
    expect((await lambda(['jobs', 'run', ...args], { input })).status).toBe(2);
    expect(received).toEqual([]);
  });

  it('lists jobs as a table, as JSON and by id', async () => {
    answer = (_request, response) => json(response, 200, { jobs: [ENDED, QUEUED], nextCursor: null });
    const table = (await lambda(['jobs', 'ls', '--status', 'succeeded', '--limit', '2'])).stdout;
    expect(received[0]?.url).toBe('/api/jobs?status=succeeded&limit=2');
    expect(table).toMatch(/^ID +STATUS +RUNTIME +ATTEMPTS +DURATION +CREATED\n\S+ +succeeded +nodejs +1 +1\.5 s +2026/);
    expect((await lambda(['jobs', 'ls', '-o', 'name'])).stdout).toBe(`${ENDED.id}\n${QUEUED.id}\n`);
    expect(JSON.parse((await lambda(['jobs', 'ls', '-o', 'json'])).stdout)).toEqual([ENDED, QUEUED]);
  });

  it('shows a job, as JSON digit by digit', async () => {
    const text = `${JSON.stringify({ ...ENDED, code: CODE }).slice(0, -1)},"result":{"n":12345678901234567890}}`;
    answer = (_request, response) => void response.end(text);
    expect((await lambda(['jobs', 'get', ENDED.id, '-o', 'json'])).stdout).toBe(`${text}\n`);
    const { stdout } = await lambda(['jobs', 'get', ENDED.id]);
    expect(stdout).toMatch(/^status +succeeded$/m);
    expect(stdout).not.toContain('code');
    answer = (_request, response) => error(response, 404, 'job_not_found', 'No such job.');
    expect((await lambda(['jobs', 'get', ENDED.id])).status).toBe(3);
  });

  it('prints the lines of a job, and cancels jobs', async () => {
    answer = (_request, response) => json(response, 200, { logs: [{ ...LINE, text: 'a\u001b[2Jb' }] });
    expect((await lambda(['jobs', 'logs', ENDED.id])).stdout).toBe('ab\n');
    answer = (_request, response) => json(response, 200, { ...ENDED, status: 'cancelled' });
    const cancelled = await lambda(['jobs', 'cancel', 'a/b']);
    expect(cancelled).toMatchObject({ status: 0, stdout: '', stderr: expect.stringContaining('is cancelled') });
    expect(received.at(-1)).toMatchObject({ method: 'POST', url: '/api/jobs/a%2Fb/cancel' });
    answer = (_request, response) => json(response, 202, { ...QUEUED, status: 'running' });
    expect((await lambda(['jobs', 'cancel', 'x'])).stderr).toContain('told to stop');
    answer = (_request, response) => error(response, 409, 'conflict', 'It has succeeded.');
    expect((await lambda(['jobs', 'cancel', 'x'])).status).toBe(5);
  });
});

describe('executions', () => {
  const execution = (id: string) => ({
    ...{ id, functionName: 'greet', version: 3, trigger: 'api', status: 'failed', outcome: 'function_error' },
    ...{ attempts: 1, acceptedAt: null, nodeId: 'node-1', statusCode: null },
    ...{ startedAt: '2026-01-02T03:04:05.000Z', finishedAt: '2026-01-02T03:04:05.500Z' },
    receipt: { start: 'warm', runMs: 490, totalMs: 500, memoryMb: 128 },
    error: {
      errorType: 'TypeError',
      errorMessage: 'no\u001b[2J',
      trace: ['TypeError: no', '    at handler (index.js:1)'],
    },
  });

  it('lists as many as were asked for, over pages that hold fewer', async () => {
    answer = ({ url }, response) => {
      const cursor = new URL(url, 'http://x').searchParams.get('cursor');
      if (cursor === null) return json(response, 200, { executions: [], nextCursor: 'a' });
      if (cursor === 'a') return json(response, 200, { executions: [execution('e1')], nextCursor: 'b' });
      json(response, 200, { executions: [execution('e2')], nextCursor: 'c' });
    };
    const filter = ['--function', 'greet', '--status', 'failed', '--trigger', 'api', '--since', '2026-01-02T00:00:00Z'];
    const { status, stdout } = await lambda(['executions', 'ls', ...filter, '--limit', '2', '-o', 'name']);
    expect([status, stdout]).toEqual([0, 'e1\ne2\n']);
    const queries = received.map(({ url }) => Object.fromEntries(new URL(url, 'http://x').searchParams));
    const same = { function: 'greet', status: 'failed', trigger: 'api', since: '2026-01-02T00:00:00.000Z' };
    expect(queries).toEqual([
      { ...same, limit: '2' },
      { ...same, limit: '2', cursor: 'a' },
      { ...same, limit: '1', cursor: 'b' },
    ]);
  });

  it('still takes --outcome', async () => {
    answer = (_request, response) => json(response, 200, { executions: [execution('e1')], nextCursor: null });
    const { stdout } = await lambda(['executions', 'list', '--outcome', 'timeout']);
    expect(stdout).toMatch(/^ID +FUNCTION +STATUS +TRIGGER +DURATION +STARTED\ne1 +greet +failed +api +500 ms +2026/);
    expect(received[0]?.url).toContain('outcome=timeout');
  });

  it('shows one that is queued', async () => {
    const queued = {
      status: 'queued',
      outcome: null,
      receipt: null,
      error: null,
      startedAt: null,
      notBefore: '2026-02-03',
    };
    answer = (_request, response) =>
      json(response, 200, { ...queued, id: 'e1', functionName: 'greet', reason: 'busy' });
    const { status, stdout } = await lambda(['executions', 'get', 'e1']);
    expect(status).toBe(0);
    expect(stdout).toBe(
      'id             e1\nfunction       greet\nstatus         queued\nreason         busy\nnext attempt   2026-02-03\n',
    );
  });

  it('prints log lines as text or as JSON', async () => {
    const line = {
      id: 1,
      executionId: 'e1',
      at: '2026-01-02T03:04:05.000Z',
      stream: 'stdout',
      level: '',
      text: 'a\u0007b',
    };
    answer = (_request, response) => json(response, 200, { logs: [line] });
    expect((await lambda(['executions', 'logs', 'e1'])).stdout).toBe('ab\n');
    expect(JSON.parse((await lambda(['executions', 'logs', 'e1', '-o', 'json'])).stdout)).toEqual(line);
  });

  it('shows where the time of one went, its error, and what went in and came out', async () => {
    answer = (_request, response) => json(response, 200, { ...execution('e1'), input: '{"a":1}', output: null });
    const { status, stdout } = await lambda(['executions', 'get', 'e1']);
    expect(status).toBe(0);
    expect(stdout).toMatch(/^status +failed$/m);
    expect(stdout).toMatch(/^run +490\.00 ms {2}█+$/m);
    expect(stdout).toContain('ERROR\nTypeError: no\n  at handler (index.js:1)\n');
    expect(stdout).toContain('INPUT\n{"a":1}\n\nOUTPUT\n(none that is kept as text)\n');
    const raw = await lambda(['executions', 'get', 'e1', '-o', 'json']);
    expect(JSON.parse(raw.stdout)).toEqual({ ...execution('e1'), input: '{"a":1}', output: null });
  });
});

describe('lambda replay', () => {
  it.each([
    [[], {}],
    [['--on-version', '3'], { version: 3 }],
  ])('sends the event of an execution again with %j', async (flags, body) => {
    answer = (_request, response) => json(response, 202, { id: 'new-one', status: 'queued' });
    const { status, stdout } = await lambda(['replay', 'a/b', ...flags]);
    expect([status, stdout]).toEqual([0, 'new-one\n']);
    expect(received[0]).toMatchObject({ method: 'POST', url: '/api/executions/a%2Fb/replay' });
    expect(JSON.parse(String(received[0]?.body))).toEqual(body);
  });
});

describe('lambda queue', () => {
  const LETTER = {
    ...{ id: '019a3c52-8d0e-7c1b-b0f4-6a3a5a1e9c11', functionName: 'report', trigger: 'async', kind: 'function' },
    ...{ condition: 'RetriesExhausted', attempts: 3, losses: 0, outcome: 'function_error', payloadBytes: 27 },
    error: { errorType: 'TypeError', errorMessage: 'no', trace: ['TypeError: no', '    at handler (index.mjs:1:1)'] },
    ...{ acceptedAt: '2026-01-02T01:00:00.000Z', diedAt: '2026-01-02T01:03:00.000Z' },
  };
  const QUEUE = {
    ...{ queued: 3, queuedBytes: 2_048, running: 1, deadLetters: 7 },
    functions: [{ name: 'report', queued: 3, queuedBytes: 2_048 }],
  };
  const lettersAndQueue: Answer = ({ url }, response) =>
    json(response, 200, url === '/api/queue' ? QUEUE : { deadLetters: [LETTER], nextCursor: 'c' });

  it('lists dead letters as a table with how much is queued, as JSON and by id', async () => {
    answer = lettersAndQueue;
    const filter = ['--function', 'report', '--condition', 'RetriesExhausted', '--limit', '1'];
    const { status, stdout, stderr } = await lambda(['queue', 'ls', ...filter]);
    expect(status).toBe(0);
    expect(received[0]?.url).toBe('/api/dead-letters?function=report&condition=RetriesExhausted&limit=1');
    expect(stdout).toMatch(
      /^ID +FUNCTION +TRIGGER +CONDITION +ATTEMPTS +ERROR +DIED\n019a\S+ +report +async +RetriesExhausted +3 +TypeError: no {3}2026\S+\n$/,
    );
    expect(stderr).toBe('These are the newest 1; --limit shows more.\n3 queued, 1 running, 7 dead letters in all.\n');
    expect((await lambda(['queue', 'ls', '-o', 'name'])).stdout).toBe(`${LETTER.id}\n`);
    expect(JSON.parse((await lambda(['queue', 'ls', '-o', 'json'])).stdout)).toEqual([LETTER]);
    answer = ({ url }, response) => json(response, 200, url === '/api/queue' ? QUEUE : { deadLetters: [] });
    expect((await lambda(['queue', 'ls', '--function', 'x'])).stderr).toMatch(/^No such dead letters\.\n3 queued/);
  });

  it('shows how much is queued, and for which functions', async () => {
    answer = lettersAndQueue;
    const { stdout } = await lambda(['queue', 'status']);
    expect(stdout).toMatch(
      /^queued +3, 2\.0 KB\nrunning +1\ndead letters +7\n\nFUNCTION +QUEUED +SIZE\nreport +3 +2\.0 KB\n$/,
    );
    expect(JSON.parse((await lambda(['queue', 'status', '-o', 'json'])).stdout)).toEqual(QUEUE);
  });

  it('shows a dead letter with its event, digit by digit and without escape sequences', async () => {
    const payload = '{"n":12345678901234567890,"a":["\u009b2Jb"]}';
    answer = (_request, response) => json(response, 200, { ...LETTER, payload, isBase64Encoded: false });
    const { stdout } = await lambda(['queue', 'get', 'a/b']);
    expect(received[0]?.url).toBe('/api/dead-letters/a%2Fb');
    expect(stdout).toMatch(/^condition +RetriesExhausted$/m);
    expect(stdout).toMatch(/^error +TypeError: no\n +at handler \(index\.mjs:1:1\)$/m);
    expect(stdout).toContain('\n{\n  "n": 12345678901234567890,\n  "a": [\n    "b"\n  ]\n}\n');
    expect(JSON.parse((await lambda(['queue', 'get', 'x', '-o', 'json'])).stdout)).toMatchObject({ payload });
    answer = (_request, response) => json(response, 200, { ...LETTER, payload: '{', isBase64Encoded: false });
    expect((await lambda(['queue', 'get', 'x'])).stdout).toMatch(/\n\n\{\n$/);
    answer = (_request, response) => json(response, 200, { ...LETTER, payload: 'gA==', isBase64Encoded: true });
    expect((await lambda(['queue', 'get', 'x'])).stderr).toContain('-o json prints it as base64');
  });

  it('shows what is no dead letter as the execution that it is', async () => {
    answer = ({ url }, response) =>
      url.startsWith('/api/executions/')
        ? json(response, 200, {
            id: 'x',
            status: 'queued',
            attempts: 1,
            error: LETTER.error,
            receipt: {},
            reason: null,
          })
        : error(response, 404, 'dead_letter_not_found', 'None.');
    expect((await lambda(['queue', 'get', 'x'])).stdout).toBe(
      'id         x\nstatus     queued\nattempts   1\nerror      TypeError: no\n           at handler (index.mjs:1:1)\n',
    );
    answer = ({ url }, response) =>
      error(
        response,
        404,
        url.startsWith('/api/executions/') ? 'execution_not_found' : 'dead_letter_not_found',
        'None.',
      );
    const unknown = await lambda(['queue', 'get', 'x']);
    expect(unknown).toMatchObject({ status: 3, stdout: '', stderr: expect.stringContaining('no dead letter and no') });
    answer = (_request, response) => error(response, 503, 'unavailable', 'The database is away.');
    expect((await lambda(['queue', 'get', 'x'])).status).toBe(5);
  });

  it('sends dead letters again by id and prints the new ids', async () => {
    answer = ({ url }, response) => json(response, 202, { id: `new-${url.split('/')[3]}`, status: 'queued' });
    expect(await lambda(['queue', 'retry', 'a', 'b'])).toEqual({ status: 0, stdout: 'new-a\nnew-b\n', stderr: '' });
    expect(received.map(({ method, url }) => `${method} ${url}`)).toEqual([
      'POST /api/dead-letters/a/redrive',
      'POST /api/dead-letters/b/redrive',
    ]);
    answer = (_request, response) => error(response, 404, 'dead_letter_not_found', 'None.');
    expect((await lambda(['queue', 'retry', 'a'])).status).toBe(3);
  });

  it.each([
    [['--all'], { all: true }],
    [['--function', 'report'], { function: 'report' }],
    [['--condition', 'NodesLost'], { condition: 'NodesLost' }],
    [['--function', 'report', '--condition', 'NodesLost'], { function: 'report', condition: 'NodesLost' }],
  ])('sends again and purges %j', async (flags, selection) => {
    answer = ({ url }, response) =>
      json(response, 200, url.startsWith('/api/dead-letters?') ? { deadLetters: [] } : { redriven: 2, purged: 1 });
    expect((await lambda(['queue', 'retry', ...flags])).stderr).toBe('2 dead letters were queued again.\n');
    expect(received[0]).toMatchObject({ method: 'POST', url: '/api/dead-letters/redrive' });
    expect(JSON.parse(received[0]?.body.toString() ?? '')).toEqual(selection);
    const purged = await lambda(['queue', 'purge', ...flags, '--yes']);
    expect(purged).toEqual({ status: 0, stdout: '', stderr: '1 dead letter was thrown away.\n' });
    expect(received.at(-1)).toMatchObject({ method: 'POST', url: '/api/dead-letters/purge' });
    expect(JSON.parse(received.at(-1)?.body.toString() ?? '')).toEqual(selection);
  });

  it('says so when some are left', async () => {
    answer = ({ url }, response) =>
      json(response, 200, url.startsWith('/api/dead-letters?') ? { deadLetters: [LETTER] } : { redriven: 2 });
    expect((await lambda(['queue', 'retry', '--all'])).stderr).toContain('There still are some');
    answer = (_request, response) => json(response, 200, { redriven: 0 });
    expect((await lambda(['queue', 'retry', '--all'])).stderr).toBe('There are no such dead letters.\n');
  });

  it('purges by id, and many only when that is said', async () => {
    answer = (_request, response) => void response.writeHead(204).end();
    expect((await lambda(['queue', 'purge', 'a/b', 'c'])).stderr).toBe('Purged a/b.\nPurged c.\n');
    expect(received[0]).toMatchObject({ method: 'DELETE', url: '/api/dead-letters/a%2Fb' });
    received = [];
    const refused = await lambda(['queue', 'purge', '--all']);
    expect(refused).toMatchObject({ status: 2, stderr: expect.stringContaining('--yes') });
    expect(received).toEqual([]);
  });

  it('cancels what is queued, and what runs', async () => {
    answer = (_request, response) => json(response, 200, { id: 'x', cancelled: 'cancelled' });
    expect((await lambda(['queue', 'cancel', 'a/b'])).stderr).toBe('a/b is cancelled.\n');
    expect(received[0]).toMatchObject({ method: 'POST', url: '/api/executions/a%2Fb/cancel' });
    answer = (_request, response) => json(response, 202, { id: 'x', cancelled: 'requested' });
    expect((await lambda(['queue', 'cancel', 'x'])).stderr).toContain('told to stop');
    answer = (_request, response) => error(response, 409, 'conflict', 'Nothing to cancel.');
    expect((await lambda(['queue', 'cancel', 'x'])).status).toBe(5);
  });

  it.each([
    [['queue', 'retry']],
    [['queue', 'retry', 'id', '--all']],
    [['queue', 'purge', '--yes']],
    [['queue', 'purge', '--yes', '--all', '--function', 'report']],
    [['queue', 'ls', '--condition', 'Bored']],
    [['queue', 'ls', '--limit', '0']],
    [['queue', 'get']],
    [['queue', 'cancel']],
  ])('%j is a mistake in the arguments, and asks no server', async (args) => {
    expect((await lambda(args)).status).toBe(2);
    expect(received).toEqual([]);
  });
});

describe('lambda async', () => {
  const SETTINGS = {
    ...{ retries: 2, retryDelaysMs: [60_000, 90_000], maxAgeMs: 21_600_000 },
    ...{ onSuccess: null, onFailure: { url: 'https://example.com/hook' } },
  };

  it('shows the settings of a function, as they can be typed', async () => {
    answer = (_request, response) => json(response, 200, SETTINGS);
    const { stdout } = await lambda(['async', 'report']);
    expect(received[0]).toMatchObject({ method: 'GET', url: '/api/functions/report/async' });
    expect(stdout).toBe(
      'retries        2\nretry delays   1m,90s\nmax age        6h\non success     nowhere\non failure     https://example.com/hook\n',
    );
    expect(JSON.parse((await lambda(['async', 'report', '-o', 'json'])).stdout)).toEqual(SETTINGS);
  });

  it.each([
    [
      ['--retries', '1', '--retry-delays', '100ms,10s', '--max-age', '1h'],
      { retries: 1, retryDelaysMs: [100, 10_000], maxAgeMs: 3_600_000 },
    ],
    [
      ['--on-success', 'fn:next', '--on-failure', 'https://example.com/?a=b'],
      { onSuccess: { function: 'next' }, onFailure: { url: 'https://example.com/?a=b' } },
    ],
    [['--no-on-success', '--no-on-failure'], { onSuccess: null, onFailure: null }],
  ])('changes what is given alone: %j', async (flags, changes) => {
    answer = (_request, response) => json(response, 200, SETTINGS);
    expect((await lambda(['async', 'report', ...flags])).status).toBe(0);
    expect(received[0]).toMatchObject({ method: 'PATCH', url: '/api/functions/report/async' });
    expect(JSON.parse(received[0]?.body.toString() ?? '')).toEqual(changes);
  });

  it.each([
    ['--retries', '6'],
    ['--retry-delays', '1s,2h'],
    ['--retry-delays', ''],
    ['--retry-delays', '1s,1s,1s,1s,1s,1s'],
    ['--max-age', '7h'],
    ['--max-age', '500ms'],
    ['--on-failure', 'alert'],
    ['--on-failure', 'fn:a b'],
    ['--on-failure', 'ftp://example.com'],
  ])('%s %j is a mistake in the arguments, and asks no server', async (flag, value) => {
    expect((await lambda(['async', 'report', flag, value])).status).toBe(2);
    expect(received).toEqual([]);
  });
});

describe('lambda concurrency', () => {
  it('shows how often a function may run at once', async () => {
    answer = (_request, response) => json(response, 200, { reserved: 0, maximum: null });
    const { stdout } = await lambda(['concurrency', 'report']);
    expect(received[0]).toMatchObject({ method: 'GET', url: '/api/functions/report/concurrency' });
    expect(stdout).toBe('reserved   0, switched off\nmaximum    none\n');
    const asJson = await lambda(['concurrency', 'report', '-o', 'json']);
    expect(JSON.parse(asJson.stdout)).toEqual({ reserved: 0, maximum: null });
  });

  it.each([
    [['--reserved', '10'], { reserved: 10 }],
    [['--reserved', '0', '--maximum', '5'], { reserved: 0, maximum: 5 }],
    [['--no-reserved'], { reserved: null }],
    [['--no-maximum'], { maximum: null }],
  ])('sends what is given alone: %j', async (args, body) => {
    answer = (_request, response) => json(response, 200, { reserved: 10, maximum: 20 });
    expect((await lambda(['concurrency', 'report', ...args])).stdout).toContain('reserved   10');
    expect(received[0]).toMatchObject({ method: 'PUT', url: '/api/functions/report/concurrency' });
    expect(JSON.parse(received[0]?.body.toString() ?? '')).toEqual(body);
  });

  it('takes both away, and not while it sets one', async () => {
    answer = (_request, response) => json(response, 200, { reserved: null, maximum: null });
    expect((await lambda(['concurrency', 'report', '--clear'])).status).toBe(0);
    expect(received[0]).toMatchObject({ method: 'DELETE', url: '/api/functions/report/concurrency' });
    expect((await lambda(['concurrency', 'report', '--clear', '--reserved', '1'])).status).toBe(2);
    expect((await lambda(['concurrency', 'report', '--maximum', '0'])).status).toBe(2);
    expect(received).toHaveLength(1);
  });
});

describe('lambda schedule', () => {
  const SCHEDULE = {
    ...{ id: '019a3c52-8d0e-7c1b-b0f4-6a3a5a1e9c11', name: 'nightly', functionName: 'report', expression: '0 2 * * *' },
    ...{ timeZone: 'Europe/Berlin', enabled: true, overlap: 'skip', nextTickAt: '2026-01-02T01:00:00.000Z' },
  };
  const PAUSED = { ...SCHEDULE, name: 'off', enabled: false, nextTickAt: null };

  it('makes a schedule with its payload as it is and prints its name', async () => {
    answer = (_request, response) => json(response, 201, SCHEDULE);
    const flags = ['--cron', '0 2 * * *', '--time-zone', 'Europe/Berlin', '--overlap', 'queue', '--catch-up', '1h'];
    const more = ['--name', 'nightly', '--jitter', '30s', '--payload', '{"n": 12345678901234567890}', '--disabled'];
    const result = await lambda(['schedule', 'report', ...flags, ...more]);
    expect(result).toEqual({ status: 0, stdout: 'nightly\n', stderr: 'Runs at 2026-01-02T01:00:00.000Z first.\n' });
    expect(received[0]).toMatchObject({ method: 'POST', url: '/api/schedules' });
    const body = received[0]?.body.toString() ?? '';
    expect(body).toContain('{"n": 12345678901234567890}');
    expect(JSON.parse(body)).toMatchObject({
      ...{ function: 'report', expression: '0 2 * * *', name: 'nightly', timeZone: 'Europe/Berlin', overlap: 'queue' },
      ...{ catchUpMs: 3_600_000, jitterMs: 30_000, enabled: false },
    });
    await lambda(['schedule', 'report', '--cron', '@daily']);
    expect(JSON.parse(received[1]?.body.toString() ?? '')).toEqual({ function: 'report', expression: '@daily' });
  });

  it.each([
    [['schedule', 'report']],
    [['schedule']],
    [['schedule', 'a b', '--cron', '@daily']],
    [['schedule', 'report', '--cron', '@daily', '--overlap', 'never']],
    [['schedule', 'report', '--cron', '@daily', '--payload', '{']],
    [['schedule', 'history', 'nightly', '--limit', '0']],
  ])('%j is a mistake in the arguments, and asks no server', async (args) => {
    expect((await lambda(args)).status).toBe(2);
    expect(received).toEqual([]);
  });

  it.each([
    [400, 'invalid_request', 2],
    [404, 'function_not_found', 3],
    [409, 'conflict', 5],
    [404, 'schedule_not_found', 3],
  ])('a %i %s ends with %i', async (status, code, exit) => {
    answer = (_request, response) => error(response, status, code, 'It says why.');
    expect((await lambda(['schedule', 'report', '--cron', '@daily'])).status).toBe(exit);
  });

  it('lists schedules as a table, as JSON and by name, and shows one', async () => {
    answer = (_request, response) => json(response, 200, { schedules: [SCHEDULE, PAUSED], nextCursor: null });
    const table = (await lambda(['schedule', 'ls', '--function', 'report', '--limit', '2'])).stdout;
    expect(received[0]?.url).toBe('/api/schedules?function=report&limit=2');
    expect(table).toMatch(
      /^NAME +FUNCTION +EXPRESSION +TIME ZONE +OVERLAP +NEXT\nnightly +report +0 2 \* \* \* +Europe\/Berlin +skip +2026-01-02T01:00:00.000Z\noff .* paused\n$/,
    );
    expect((await lambda(['schedule', 'ls', '-o', 'name'])).stdout).toBe('nightly\noff\n');
    expect(JSON.parse((await lambda(['schedule', 'ls', '-o', 'json'])).stdout)).toEqual([SCHEDULE, PAUSED]);
    answer = (_request, response) => json(response, 200, { ...SCHEDULE, nextRuns: ['2026-01-02T01:00:00.000Z'] });
    expect((await lambda(['schedule', 'get', 'nightly'])).stdout).toMatch(/^nextRuns +\["2026-01-02/m);
  });

  it('pauses, resumes, runs and removes schedules, and shows their history', async () => {
    answer = (_request, response) => json(response, 200, PAUSED);
    expect((await lambda(['schedule', 'pause', 'a/b'])).stderr).toBe('a/b is paused.\n');
    expect(received.at(-1)).toMatchObject({ method: 'POST', url: '/api/schedules/a%2Fb/pause' });
    answer = (_request, response) => json(response, 200, SCHEDULE);
    expect((await lambda(['schedule', 'resume', 'nightly'])).stderr).toContain('runs next at 2026-01-02T01');
    answer = (_request, response) => json(response, 202, { invocationId: 'i-1' });
    expect(await lambda(['schedule', 'run', 'nightly'])).toEqual({ status: 0, stdout: 'i-1\n', stderr: '' });
    answer = (_request, response) => void response.writeHead(204).end();
    expect((await lambda(['schedule', 'rm', 'nightly', 'off'])).stderr).toBe('Removed nightly.\nRemoved off.\n');
    const tick = {
      trigger: 'schedule',
      tickAt: '2026-01-01T01:00:00.000Z',
      outcome: 'ran',
      invocationId: 'i-1',
      count: 1,
    };
    const ticks = [tick, { ...tick, outcome: 'missed', invocationId: null, count: 40 }];
    answer = (_request, response) => json(response, 200, { ticks, nextCursor: null });
    const history = (await lambda(['schedule', 'history', 'nightly', '--limit', '5'])).stdout;
    expect(received.at(-1)?.url).toBe('/api/schedules/nightly/ticks?limit=5');
    expect(history).toMatch(
      /^TICK +TRIGGER +OUTCOME +INVOCATION\n\S+ +schedule +ran +i-1\n\S+ +schedule +missed \(40\)\n$/,
    );
  });
});

describe('lambda node', () => {
  const CREATED = {
    ...{ id: 'a1b2c3d4e5', token: 'lfj_a1b2c3d4e5_secret.pin', expiresAt: '2026-01-02T03:04:05.000Z' },
    ...{ nodeId: 'node-7', controlPlanePort: 7070, enrollPort: 7071 },
  };

  it('join-token prints the token alone, and what to start the agent with on standard error', async () => {
    answer = (_request, response) => json(response, 201, CREATED);
    const result = await lambda(['node', 'join-token', '--node', 'node-7', '--expires', '5m']);
    expect(result).toMatchObject({ status: 0, stdout: `${CREATED.token}\n` });
    expect(received[0]).toMatchObject({ method: 'POST', url: '/api/join-tokens' });
    expect(JSON.parse(received[0]?.body.toString() ?? '')).toEqual({ nodeId: 'node-7', expiresInMinutes: 5 });
    const lines = result.stderr.split('\n').map((line) => line.trim());
    expect(lines).toContain('LAMBDA_CONTROL_PLANE=127.0.0.1:7070');
    expect(lines).toContain('LAMBDA_ENROLL_ADDRESS=127.0.0.1:7071');
    expect(lines).toContain('LAMBDA_NODE_ID=node-7');
    expect(lines).toContain(`LAMBDA_JOIN_TOKEN=${CREATED.token}`);
    const asName = await lambda(['node', 'join-token', '-o', 'name']);
    expect(asName.stdout).toBe(`${CREATED.id}\n`);
    const asJson = await lambda(['node', 'join-token', '-o', 'json']);
    expect(JSON.parse(asJson.stdout)).toEqual(CREATED);
  });

  it('join-token takes no time over 15 minutes and no part of a minute', async () => {
    for (const expires of ['16m', '0m', '90s', '1h', 'soon']) {
      expect((await lambda(['node', 'join-token', '--expires', expires])).status).toBe(2);
    }
    expect(received).toEqual([]);
  });

  it('rm removes each node, and says that there is none with exit status 3', async () => {
    answer = (request, response) => {
      if (request.url === '/api/nodes/gone') error(response, 404, 'node_not_found', 'There is no node gone.');
      else response.writeHead(204).end();
    };
    expect(await lambda(['node', 'rm', '-y', 'node-1', 'a/b'])).toMatchObject({ status: 0, stdout: '' });
    expect(received.map(({ method, url }) => `${method} ${url}`)).toEqual([
      'DELETE /api/nodes/node-1',
      'DELETE /api/nodes/a%2Fb',
    ]);
    expect((await lambda(['node', 'rm', '-y', 'gone'])).status).toBe(3);
  });
});
