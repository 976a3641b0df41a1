import { type ChildProcess, execFileSync, type StdioOptions, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { createServer, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { initFile } from './build.mjs';

export const Type = {
  HELLO: 0x01,
  PONG: 0x07,
  OPEN: 0x10,
  DATA: 0x11,
  END: 0x12,
  RESET: 0x13,
  WINDOW: 0x14,
  OPENED: 0x15,
  STARTED: 0x16,
  NOT_STARTED: 0x17,
  AGENT_INIT: 0x81,
  AGENT_PING: 0x83,
  AGENT_OPEN: 0x90,
  AGENT_DATA: 0x91,
  AGENT_END: 0x92,
  AGENT_RESET: 0x93,
  AGENT_WINDOW: 0x94,
} as const;

export const NONCE = '00112233445566778899aabbccddeeff';
export const WINDOW_BYTES = 65_536;
const DEADLINE_MS = 20_000;

/** The three forms of `LAMBDA_CHANNEL`; `standard` is `fd:0,1`. */
export const TRANSPORTS = ['socket', 'pipes', 'standard'] as const;
export type Transport = (typeof TRANSPORTS)[number];

export interface Received {
  readonly type: number;
  readonly meta: string;
  readonly body: Buffer;
}

export function frame(type: number, body: Uint8Array = new Uint8Array(), meta = ''): Buffer {
  const head = Buffer.alloc(9);
  head.writeUInt32BE(5 + meta.length + body.length, 0);
  head.writeUInt8(type, 4);
  head.writeUInt32BE(meta.length, 5);
  return Buffer.concat([head, Buffer.from(meta), body]);
}

export type Part = Uint8Array | string | { readonly u32: number } | { readonly u16: number } | { readonly u8: number };

/** Big endian numbers, and bytes or text as they are. */
export function bytes(...parts: readonly Part[]): Buffer {
  return Buffer.concat(
    parts.map((part) => {
      if (typeof part === 'string' || part instanceof Uint8Array) return Buffer.from(part);
      const number = Buffer.alloc('u32' in part ? 4 : 'u16' in part ? 2 : 1);
      if ('u32' in part) number.writeUInt32BE(part.u32);
      else if ('u16' in part) number.writeUInt16BE(part.u16);
      else number.writeUInt8(part.u8);
      return number;
    }),
  );
}

export interface Program {
  readonly port?: number;
  readonly directory?: string;
  readonly argv: readonly string[];
  readonly environment?: readonly string[];
}

export function initBody({ port = 9001, directory = '', argv, environment = [] }: Program): Buffer {
  const strings = [String(port), directory, String(argv.length), ...argv, ...environment];
  return Buffer.from(strings.map((text) => `${text}\0`).join(''));
}

/**
 * The agent's end of a real init, as small as a test can have it: sends bytes, collects frames. `close` leaves
 * neither process nor folder behind.
 */
export class InitPeer {
  readonly frames: Received[] = [];
  stdout = '';
  stderr = '';
  #buffered = Buffer.alloc(0);
  #exit: { readonly code: number | null; readonly signal: string | null } | undefined;
  readonly #wakers = new Set<() => void>();

  private constructor(
    private readonly folder: string,
    readonly child: ChildProcess,
    readonly incoming: Socket,
    private readonly outgoing: Socket,
  ) {
    incoming.on('data', (chunk: Buffer) => this.#receive(chunk));
    for (const stream of [incoming, outgoing]) stream.on('error', () => {});
    child.stdout?.on('data', (chunk: Buffer) => {
      this.stdout += chunk.toString();
      this.#wake();
    });
    child.stderr?.on('data', (chunk: Buffer) => {
      this.stderr += chunk.toString();
      this.#wake();
    });
    child.once('close', (code, signal) => {
      this.#exit = { code, signal };
      this.#wake();
    });
  }

  static async start(transport: Transport = 'socket', program = initFile()): Promise<InitPeer> {
    const folder = mkdtempSync(join(tmpdir(), 'lambda-init-'));
    const start = (channel: string, stdio: StdioOptions) =>
      spawn(program, { env: { PATH: '/nowhere', SECRET: 'x', LAMBDA_CHANNEL: channel, LAMBDA_NONCE: NONCE }, stdio });
    if (transport === 'socket') {
      const path = join(folder, 'channel.sock');
      const server = createServer().listen(path);
      await once(server, 'listening');
      const child = start(path, ['ignore', 'pipe', 'pipe']);
      const [socket] = (await once(server, 'connection', { signal: AbortSignal.timeout(DEADLINE_MS) })) as [Socket];
      server.close();
      return new InitPeer(folder, child, socket, socket);
    }
    const toInit = openPipe(join(folder, 'to-init'));
    const toAgent = openPipe(join(folder, 'to-agent'));
    const child =
      transport === 'pipes'
        ? start('fd:4,3', ['ignore', 'pipe', 'pipe', toAgent.write, toInit.read])
        : start('fd:0,1', [toInit.read, toAgent.write, 'pipe']);
    closeSync(toAgent.write);
    closeSync(toInit.read);
    const incoming = new Socket({ fd: toAgent.read, readable: true, writable: false });
    return new InitPeer(folder, child, incoming, new Socket({ fd: toInit.write, readable: false, writable: true }));
  }

  /** With a program that runs. Resolves with the Runtime API's port. */
  async run(program: Program): Promise<number> {
    this.send(Type.AGENT_INIT, initBody(program));
    return (await this.next(Type.STARTED)).body.readUInt16BE(0);
  }

  send(type: number, body?: Uint8Array): void {
    this.outgoing.write(frame(type, body));
  }

  sendBytes(raw: Uint8Array): void {
    this.outgoing.write(raw);
  }

  hangUp(): void {
    this.incoming.destroy();
    this.outgoing.destroy();
  }

  /** Takes the next frame of this type (and stream) out of what came; others stay. */
  async next(type: number, id?: number): Promise<Received> {
    const find = () => this.frames.findIndex((got) => got.type === type && (id === undefined || idOf(got) === id));
    await this.until(() => find() !== -1, `frame ${type} of stream ${id}`);
    const [got] = this.frames.splice(find(), 1);
    if (got === undefined) throw new Error('there is no such frame');
    return got;
  }

  /** Everything that has come for a stream. */
  data(id: number): Buffer {
    return Buffer.concat(
      this.frames.filter((got) => got.type === Type.DATA && idOf(got) === id).map(({ body }) => body.subarray(4)),
    );
  }

  async exited(): Promise<{ readonly code: number | null; readonly signal: string | null }> {
    while (this.#exit === undefined) await this.#change('the exit');
    return this.#exit;
  }

  async until(condition: () => boolean, what: string): Promise<void> {
    while (!condition()) {
      if (this.#exit !== undefined)
        throw new Error(`the init ended (${JSON.stringify(this.#exit)}) before ${what}: ${this.stderr}`);
      await this.#change(what);
    }
  }

  async close(): Promise<void> {
    this.hangUp();
    this.child.kill('SIGCONT');
    if (this.#exit === undefined) this.child.kill('SIGKILL');
    await this.exited();
    rmSync(this.folder, { recursive: true, force: true });
  }

  #change(what: string): Promise<void> {
    return new Promise((resolve, reject) => {
      const done = () => {
        clearTimeout(timer);
        this.#wakers.delete(done);
        resolve();
      };
      const timer = setTimeout(() => {
        this.#wakers.delete(done);
        reject(
          new Error(
            `waited ${DEADLINE_MS} ms for ${what}; stderr: ${this.stderr}; frames: ${this.frames.map(({ type }) => type)}`,
          ),
        );
      }, DEADLINE_MS);
      this.#wakers.add(done);
    });
  }

  #wake(): void {
    for (const waker of [...this.#wakers]) waker();
  }

  #receive(chunk: Buffer): void {
    this.#buffered = Buffer.concat([this.#buffered, chunk]);
    while (this.#buffered.length >= 9) {
      const end = 4 + this.#buffered.readUInt32BE(0);
      if (this.#buffered.length < end) break;
      const metaEnd = 9 + this.#buffered.readUInt32BE(5);
      this.frames.push({
        type: this.#buffered.readUInt8(4),
        meta: this.#buffered.toString('utf8', 9, metaEnd),
        body: this.#buffered.subarray(metaEnd, end),
      });
      this.#buffered = this.#buffered.subarray(end);
    }
    this.#wake();
  }
}

export function idOf(got: Received): number {
  return got.body.length >= 4 ? got.body.readUInt32BE(0) : 0;
}

/** A real pipe; what Node gives a child are sockets. */
function openPipe(path: string): { readonly read: number; readonly write: number } {
  execFileSync('mkfifo', [path]);
  // Opening one end waits for the other, unless both are open already.
  const both = openSync(path, 'r+');
  const ends = { read: openSync(path, 'r'), write: openSync(path, 'w') };
  closeSync(both);
  return ends;
}
