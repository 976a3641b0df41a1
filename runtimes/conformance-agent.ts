import { type ChildProcess, execFileSync, type StdioOptions, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdirSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Code, RuntimeFamily } from './conformance-fixture.js';
import { runtimeFile } from './node/build.mjs';

const FRAME_TYPES: Readonly<Record<string, number>> = {
  HELLO: 0x01,
  READY: 0x02,
  INIT_ERROR: 0x03,
  RESPONSE: 0x04,
  ERROR: 0x05,
  LOG: 0x06,
  PONG: 0x07,
  COMPILED: 0x08,
  INIT: 0x81,
  INVOKE: 0x82,
  PING: 0x83,
  COMPILE: 0x84,
};

const COMMANDS: Readonly<Record<RuntimeFamily, readonly [string, ...string[]]>> = {
  nodejs: [process.execPath, runtimeFile],
  python: ['python3', '-I', '-X', 'utf8', fileURLToPath(new URL('python/lambda_runtime', import.meta.url))],
};

const NONCE = '00112233445566778899aabbccddeeff';
const STEP_DEADLINE_MS = 10_000;

/** A unix socket, or a pipe for each direction: the two forms of LAMBDA_CHANNEL. */
export const TRANSPORTS = ['socket', 'pipes'] as const;
export type Transport = (typeof TRANSPORTS)[number];

export interface ReceivedFrame {
  readonly type: string;
  readonly meta: Record<string, unknown>;
  readonly body: Buffer;
  readonly bytes: Buffer;
}

export function frameBytes(type: string, meta: unknown, body: Uint8Array = new Uint8Array()): Buffer {
  const metaBytes = Buffer.from(JSON.stringify(meta));
  const head = Buffer.alloc(9);
  head.writeUInt32BE(5 + metaBytes.length + body.length, 0);
  head[4] = FRAME_TYPES[type] ?? 0;
  head.writeUInt32BE(metaBytes.length, 5);
  return Buffer.concat([head, metaBytes, body]);
}

export interface StartOptions {
  /** Stands for the runtime's own program and arguments. */
  readonly program?: readonly [string, ...string[]];
  readonly environment?: Readonly<Record<string, string>>;
  /** A folder that outlives the agent. */
  readonly taskRoot?: string;
}

/**
 * The agent's end of one channel, as small as a test can have it: starts a real
 * runtime process in a folder of its own, sends bytes, and hands out the frames that
 * come back one by one. `close` leaves neither process nor folder behind.
 */
export class ConformanceAgent {
  readonly #frames: ReceivedFrame[] = [];
  #received: Buffer[] = [];
  #receivedBytes = 0;
  #wake: () => void = () => {};
  #exitStatus: number | null | undefined;
  #stderr = '';

  private constructor(
    private readonly folder: string,
    private readonly child: ChildProcess,
    private readonly streams: Streams,
  ) {
    streams.incoming.on('data', (chunk: Buffer) => this.#onData(chunk));
    // A runtime that ends itself resets the connection; its exit is what tests look at.
    streams.incoming.on('error', () => {});
    streams.outgoing.on('error', () => {});
    child.stderr?.on('data', (chunk: Buffer) => {
      this.#stderr += chunk.toString();
      this.#wake();
    });
    child.once('exit', (status) => {
      this.#exitStatus = status;
      this.#wake();
    });
  }

  static async start(
    family: RuntimeFamily,
    code: Code,
    transport: Transport,
    options: StartOptions = {},
  ): Promise<ConformanceAgent> {
    const folder = mkdtempSync(join(tmpdir(), 'lambda-conformance-'));
    const { taskRoot = join(folder, 'task') } = options;
    mkdirSync(taskRoot, { recursive: true });
    for (const [path, lines] of Object.entries(code)) {
      const file = join(taskRoot, path);
      mkdirSync(dirname(file), { recursive: true });
      writeFileSync(file, `${lines.join('\n')}\n`);
    }
    const [command, ...args] = options.program ?? COMMANDS[family];
    const start = (channel: string, stdio: StdioOptions) =>
      spawn(command, args, {
        env: {
          PATH: '/usr/local/bin:/usr/bin:/bin',
          LAMBDA_CHANNEL: channel,
          LAMBDA_NONCE: NONCE,
          LAMBDA_TASK_ROOT: taskRoot,
          ...options.environment,
        },
        stdio,
      });
    const [child, streams] = await (transport === 'socket' ? overSocket(folder, start) : overPipes(folder, start));
    return new ConformanceAgent(folder, child, streams);
  }

  send(bytes: Uint8Array): void {
    this.streams.outgoing.write(bytes);
  }

  /** Stops or starts reading, to play an agent that is busy. */
  pause(paused: boolean): void {
    if (paused) {
      this.streams.incoming.pause();
    } else {
      this.streams.incoming.resume();
    }
  }

  /** What the process has written to descriptor 2 so far. */
  get stderr(): string {
    return this.#stderr;
  }

  hangUp(): void {
    this.streams.incoming.destroy();
    this.streams.outgoing.destroy();
  }

  async nextFrame(): Promise<ReceivedFrame> {
    await this.#until(() => this.#frames.length > 0 || this.#exitStatus !== undefined, 'a frame');
    const frame = this.#frames.shift();
    if (frame === undefined) {
      throw new Error(
        `the runtime exited with ${String(this.#exitStatus)} instead of sending a frame: ${this.#stderr}`,
      );
    }
    return frame;
  }

  /** Waits until the process has written `text` to descriptor 2, beside the channel. */
  async stderrHolds(text: string): Promise<void> {
    await this.#until(() => this.#stderr.includes(text), `"${text}" on stderr`);
  }

  async exitStatus(): Promise<number | null> {
    await this.#until(() => this.#exitStatus !== undefined, 'the exit');
    return this.#exitStatus ?? null;
  }

  async close(): Promise<void> {
    this.hangUp();
    if (this.#exitStatus === undefined) {
      this.child.kill('SIGKILL');
      await this.exitStatus();
    }
    rmSync(this.folder, { recursive: true, force: true });
  }

  async #until(condition: () => boolean, what: string): Promise<void> {
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      this.#wake();
    }, STEP_DEADLINE_MS);
    try {
      while (!condition()) {
        if (late) {
          throw new Error(`waited ${STEP_DEADLINE_MS} ms for ${what}; stderr: ${this.#stderr}`);
        }
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    } finally {
      clearTimeout(timer);
    }
  }

  #onData(chunk: Buffer): void {
    this.#received.push(chunk);
    this.#receivedBytes += chunk.length;
    // Joining is left until a whole frame is here: a large response comes in many chunks.
    while (this.#receivedBytes >= 4) {
      const first = this.#received[0];
      if (first === undefined) {
        return;
      }
      const head = first.length >= 4 ? first : Buffer.concat(this.#received);
      const end = 4 + head.readUInt32BE(0);
      if (this.#receivedBytes < end) {
        return;
      }
      const all = this.#received.length === 1 ? first : Buffer.concat(this.#received);
      this.#frames.push(decode(all.subarray(0, end)));
      this.#received = all.length > end ? [all.subarray(end)] : [];
      this.#receivedBytes -= end;
      this.#wake();
    }
  }
}

/** The agent's ends; one and the same for a socket. */
interface Streams {
  readonly incoming: Socket;
  readonly outgoing: Socket;
}

type Start = (channel: string, stdio: StdioOptions) => ChildProcess;

async function overSocket(folder: string, start: Start): Promise<[ChildProcess, Streams]> {
  const path = join(folder, 'channel.sock');
  const server = createServer().listen(path);
  await once(server, 'listening');
  const child = start(path, ['ignore', 'ignore', 'pipe']);
  try {
    const connected = once(server, 'connection', { signal: AbortSignal.timeout(STEP_DEADLINE_MS) });
    const [socket] = (await connected) as [Socket];
    return [child, { incoming: socket, outgoing: socket }];
  } finally {
    server.close();
  }
}

async function overPipes(folder: string, start: Start): Promise<[ChildProcess, Streams]> {
  const toRuntime = openPipe(join(folder, 'to-runtime'));
  const toAgent = openPipe(join(folder, 'to-agent'));
  const child = start('fd:4,3', ['ignore', 'ignore', 'pipe', toAgent.write, toRuntime.read]);
  closeSync(toAgent.write);
  closeSync(toRuntime.read);
  const incoming = new Socket({ fd: toAgent.read, readable: true, writable: false });
  const outgoing = new Socket({ fd: toRuntime.write, readable: false, writable: true });
  return [child, { incoming, outgoing }];
}

/** A real pipe, as an engine gives a container; what Node gives a child are sockets. Each end can block on its own. */
function openPipe(path: string): { readonly read: number; readonly write: number } {
  execFileSync('mkfifo', [path]);
  // Opening one end waits for the other, unless both are open already.
  const both = openSync(path, 'r+');
  const ends = { read: openSync(path, 'r'), write: openSync(path, 'w') };
  closeSync(both);
  return ends;
}

function decode(bytes: Buffer): ReceivedFrame {
  const code = bytes[4];
  const type = Object.entries(FRAME_TYPES).find(([, value]) => value === code)?.[0] ?? `0x${String(code)}`;
  const metaEnd = 9 + bytes.readUInt32BE(5);
  return {
    type,
    meta: JSON.parse(bytes.toString('utf8', 9, metaEnd)) as Record<string, unknown>,
    body: bytes.subarray(metaEnd),
    bytes,
  };
}
