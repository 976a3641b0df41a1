/**
 * Plays the agent for one invocation and prints every frame that comes back:
 *
 *   node runtimes/speak.mjs <folder> <handler> <event> [--python] [--http] [--job]
 */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const NAMES = { 1: 'HELLO', 2: 'READY', 3: 'INIT_ERROR', 4: 'RESPONSE', 5: 'ERROR', 6: 'LOG', 7: 'PONG' };
const INIT = 0x81;
const INVOKE = 0x82;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: Object.fromEntries(['python', 'http', 'job'].map((name) => [name, { type: 'boolean', default: false }])),
});
const [folder, handler, event = '{}'] = positionals;
if (folder === undefined || handler === undefined) {
  process.stderr.write('usage: node runtimes/speak.mjs <folder> <handler> <event> [--python] [--http] [--job]\n');
  process.exit(2);
}

const path = (relative) => fileURLToPath(new URL(relative, import.meta.url));
const [program, ...args] = values.python
  ? ['python3', '-I', '-X', 'utf8', path('python/lambda_runtime')]
  : [process.execPath, path('node/dist/runtime.cjs')];
const socketFolder = mkdtempSync(join(tmpdir(), 'lambda-speak-'));
const channel = join(socketFolder, 'channel.sock');

const server = createServer((socket) => {
  let received = Buffer.alloc(0);
  socket.on('data', (chunk) => {
    received = Buffer.concat([received, chunk]);
    while (received.length >= 4 && received.length >= 4 + received.readUInt32BE(0)) {
      const end = 4 + received.readUInt32BE(0);
      onFrame(socket, received.subarray(0, end));
      received = received.subarray(end);
    }
  });
}).listen(channel, () => {
  const env = { PATH: process.env.PATH, LAMBDA_CHANNEL: channel, LAMBDA_NONCE: '0'.repeat(32) };
  const child = spawn(program, args, { env: { ...env, LAMBDA_TASK_ROOT: resolve(folder) }, stdio: 'inherit' });
  child.on('exit', (status) => {
    process.stdout.write(`exit ${status}\n`);
    server.close();
    rmSync(socketFolder, { recursive: true });
  });
});

function onFrame(socket, bytes) {
  const name = NAMES[bytes[4]];
  const metaEnd = 9 + bytes.readUInt32BE(5);
  process.stdout.write(`${name} ${bytes.toString('utf8', 9, metaEnd)} ${bytes.toString('utf8', metaEnd)}\n`);
  if (name === 'HELLO') {
    const names = { handler, functionName: 'spoken', functionVersion: '1', functionArn: 'arn', memoryMb: 512 };
    const rest = {
      timeoutMs: 30_000,
      environment: {},
      logGroup: 'group',
      logStream: 'stream',
      concurrency: 1,
      realm: '',
    };
    socket.write(frame(INIT, { ...names, ...rest, realm: values.job ? 'vm' : '' }));
  } else if (name === 'READY') {
    const call = { id: 'one', deadlineMs: Date.now() + 30_000, arn: 'arn', traceId: '', clientContext: '' };
    socket.write(frame(INVOKE, { ...call, http: values.http }, event));
  } else if (name !== 'LOG' && name !== 'PONG') {
    socket.end();
  }
}

function frame(type, meta, body = '') {
  const [metaBytes, bodyBytes] = [Buffer.from(JSON.stringify(meta)), Buffer.from(body)];
  const head = Buffer.alloc(9);
  head.writeUInt32BE(5 + metaBytes.length + bodyBytes.length, 0);
  head[4] = type;
  head.writeUInt32BE(metaBytes.length, 5);
  return Buffer.concat([head, metaBytes, bodyBytes]);
}
