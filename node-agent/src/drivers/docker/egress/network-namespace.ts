import { type ChildProcessWithoutNullStreams, type StdioOptions, spawn } from 'node:child_process';
import { createSocket, type Socket } from 'node:dgram';
import { type FileHandle, open, readdir, readFile, readlink } from 'node:fs/promises';

const PROGRAM_DEADLINE_MS = 10_000;
/** The place of the namespace's descriptor in a child. */
const NAMESPACE_FD = 3;
const OUTPUT_CHARS_MAX = 4 * 1024 * 1024;

/** Binds a socket and hands it to its parent; runs in the namespace, without anything of this program. */
const BIND_SCRIPT = `
const [address, port] = process.argv.slice(1);
const socket = require('node:dgram').createSocket('udp4');
socket.once('error', (err) => { process.send({ error: err.message }, () => process.exit(1)); });
// Closed here, or this process would go on and take every other datagram.
const sent = () => { socket.close(); process.disconnect(); };
socket.bind(Number(port), address, () => process.send({ bound: true }, socket, sent));
`;

export interface Link {
  readonly ifindex: number;
  readonly ifname: string;
  /** Of the other end of a pair. */
  readonly link_index?: number;
  /** With details, of a port of a bridge. */
  readonly linkinfo?: { readonly info_slave_data?: { readonly isolated?: boolean } };
}

/**
 * The network namespace that a Docker engine makes its bridges in: this process's own, or another one. An engine that is
 * started again elsewhere is not followed; what was found stays what it is, for as long as it is held open here.
 */
export class NetworkNamespace {
  private constructor(
    /** Undefined is the namespace of this process. */
    private readonly handle: FileHandle | undefined,
  ) {}

  /**
   * The namespace with an interface of this name, which only one may have: the own one, or that of some `dockerd`.
   * Undefined when there is none.
   */
  static async withInterface(name: string): Promise<NetworkNamespace | undefined> {
    const own = new NetworkNamespace(undefined);
    if (await own.hasInterface(name)) return own;
    for (const path of await namespacesOfEngines()) {
      const handle = await open(path, 'r').catch(() => undefined);
      if (handle === undefined) continue;
      const namespace = new NetworkNamespace(handle);
      if (await namespace.hasInterface(name)) return namespace;
      await namespace.close();
    }
    return undefined;
  }

  /** That of a process; rejects when it is gone. */
  static async ofProcess(pid: number): Promise<NetworkNamespace> {
    return new NetworkNamespace(await open(`/proc/${pid}/ns/net`, 'r'));
  }

  async hasInterface(name: string): Promise<boolean> {
    return await this.run('ip', ['link', 'show', 'dev', name]).then(
      () => true,
      () => false,
    );
  }

  /** Interfaces that `ip link show` lists with this selection. */
  async links(...selection: string[]): Promise<readonly Link[]> {
    return JSON.parse((await this.run('ip', ['-j', '-d', 'link', 'show', ...selection])) || '[]') as Link[];
  }

  /** Runs a program in it and resolves with its standard output; rejects with its standard error. */
  run(program: string, args: readonly string[], input = ''): Promise<string> {
    const [command, ...rest] = [...this.#enter(), program, ...args];
    const stdio: StdioOptions = ['pipe', 'pipe', 'pipe', this.handle?.fd];
    const child = spawn(command, rest, { stdio, env: ENVIRONMENT }) as ChildProcessWithoutNullStreams;
    return new Promise((resolve, reject) => {
      let [output, errors] = ['', ''];
      const timer = setTimeout(() => child.kill('SIGKILL'), PROGRAM_DEADLINE_MS);
      child.stdout.setEncoding('utf8').on('data', (text: string) => {
        if (output.length < OUTPUT_CHARS_MAX) output += text;
      });
      child.stderr.setEncoding('utf8').on('data', (text: string) => {
        errors = (errors + text).slice(-2_000);
      });
      child.stdin.on('error', () => {
        // It did not want its input; its status tells.
      });
      child.once('error', (err) => {
        clearTimeout(timer);
        reject(new Error(`${program} cannot be run: ${err.message}`));
      });
      child.once('close', (status, signal) => {
        clearTimeout(timer);
        if (status === 0) resolve(output);
        else reject(new Error(`${program} ended with ${signal ?? `status ${status}`}: ${errors.trim()}`));
      });
      child.stdin.end(input);
    });
  }

  /** A UDP socket of this process that is bound in the namespace. */
  async bindUdp(address: string, port: number): Promise<Socket> {
    if (this.handle === undefined) {
      const socket = createSocket('udp4');
      return await new Promise((resolve, reject) => {
        socket.once('error', reject);
        socket.bind(port, address, () => resolve(socket));
      });
    }
    const [command, ...args] = [...this.#enter(), process.execPath, '-e', BIND_SCRIPT, address, String(port)];
    const child = spawn(command, args, {
      stdio: ['ignore', 'ignore', 'ignore', this.handle.fd, 'ipc'],
      env: ENVIRONMENT,
    });
    return await new Promise((resolve, reject) => {
      const timer = setTimeout(() => child.kill('SIGKILL'), PROGRAM_DEADLINE_MS);
      let bound: Socket | undefined;
      let problem = 'no socket came';
      child.once('message', (message: { readonly error?: string }, socket) => {
        bound = socket as Socket | undefined;
        problem = message.error ?? problem;
      });
      child.once('error', (err) => reject(err));
      child.once('exit', () => {
        clearTimeout(timer);
        if (bound === undefined) reject(new Error(`no socket could be bound: ${problem}`));
        else resolve(bound);
      });
    });
  }

  async close(): Promise<void> {
    await this.handle?.close();
  }

  #enter(): readonly [string, ...string[]] | [] {
    return this.handle === undefined ? [] : ['nsenter', `--net=/proc/self/fd/${NAMESPACE_FD}`];
  }
}

/** Administration programs are often not on the path of an agent. */
const ENVIRONMENT = { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C' };

/** One path for each different network namespace of a process named dockerd. */
async function namespacesOfEngines(): Promise<readonly string[]> {
  const paths = new Map<string, string>();
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    const name = await readFile(`/proc/${pid}/comm`, 'utf8').catch(() => '');
    if (name.trim() !== 'dockerd') continue;
    const path = `/proc/${pid}/ns/net`;
    const identity = await readlink(path).catch(() => undefined);
    if (identity !== undefined && !paths.has(identity)) paths.set(identity, path);
  }
  return [...paths.values()];
}
