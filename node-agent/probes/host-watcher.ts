import { readFile } from 'node:fs/promises';
import type { Duplex } from 'node:stream';
import type Docker from 'dockerode';
import { OutputDemux } from '../src/drivers/docker/output-demux.js';

/** A process of a sandbox as the host sees it. */
export interface SeenProcess {
  readonly pid: number;
  readonly name: string;
  /** Real, effective, saved, filesystem. */
  readonly uids: readonly number[];
  /** Sets of capabilities that are not empty. */
  readonly capabilities: readonly string[];
  /** Name → identity. */
  readonly namespaces: Readonly<Record<string, string>>;
  readonly descriptors: readonly {
    readonly target: string;
    /** Major and minor number. */
    readonly device?: string;
    /** The kernel's name of a socket's protocol. */
    readonly protocol?: string;
  }[];
  readonly environment: string;
  readonly arguments: string;
  /** sha256 of the program's file. */
  readonly program: string;
}

export interface SeenCgroup {
  readonly limits: Readonly<Record<'memory' | 'swap' | 'processes' | 'processor', string>>;
  readonly groupsInside: readonly string[];
  readonly processes: number;
  readonly memoryPeak: number;
  readonly throttled: number;
  readonly processorUs: number;
}

const VIEW: Docker.HostConfig & { readonly CgroupnsMode: string } = {
  // Not `Privileged`, which asks for more than an engine inside of a container may give.
  CapAdd: ['SYS_ADMIN', 'SYS_PTRACE', 'DAC_READ_SEARCH', 'NET_ADMIN', 'SYSLOG'],
  SecurityOpt: ['seccomp=unconfined', 'apparmor=unconfined'],
  MaskedPaths: [],
  ReadonlyPaths: [],
  PidMode: 'host',
  IpcMode: 'host',
  CgroupnsMode: 'host',
  NetworkMode: 'none',
  AutoRemove: true,
};

/** `host_watcher.py` in a container: everything that judges a probe looks at the host through it. */
export class HostWatcher {
  readonly #waiting: { resolve(value: unknown): void; reject(reason: Error): void }[] = [];
  #received = '';
  #complaint = '';

  private constructor(
    private readonly container: Docker.Container,
    private readonly stream: Duplex,
  ) {}

  static async start(docker: Docker, image: string): Promise<HostWatcher> {
    const source = await readFile(new URL('host_watcher.py', import.meta.url), 'utf8');
    const container = await docker.createContainer({
      Image: image,
      Entrypoint: ['/usr/bin/python3', '-u', '-c', source],
      User: '0:0',
      OpenStdin: true,
      // It ends with this process.
      StdinOnce: true,
      AttachStdin: true,
      AttachStdout: true,
      AttachStderr: true,
      Labels: { 'lambda.probes': 'watcher' },
      HostConfig: VIEW,
    });
    const stream = await container.attach({ stream: true, hijack: true, stdin: true, stdout: true, stderr: true });
    const watcher = new HostWatcher(container, stream as Duplex);
    const demux = new OutputDemux((output, bytes) => {
      if (output === 'stdout') watcher.#receive(bytes);
      else watcher.#complaint += bytes.toString();
    });
    stream.on('data', (chunk: Buffer) => demux.push(chunk));
    stream.on('end', () => watcher.#ended());
    const ready = watcher.#answer();
    await Promise.all([ready, container.start()]);
    return watcher;
  }

  /** What a sandbox joins to have the stand-in's network. */
  get networkMode(): string {
    return `container:${this.container.id}`;
  }

  processes(container: string): Promise<readonly SeenProcess[]> {
    return this.#ask('processes', { container });
  }

  /** `<point> <ro|rw> <type>` of everything that is mounted for the container. */
  mounts(container: string): Promise<readonly string[]> {
    return this.#ask('mounts', { container });
  }

  /** Null when none of its processes is left. */
  cgroup(container: string): Promise<SeenCgroup | null> {
    return this.#ask('cgroup', { container });
  }

  /** The first 4 KB of each file, undefined where there is nothing to read. */
  async read(paths: readonly string[]): Promise<ReadonlyMap<string, Buffer>> {
    const found: Readonly<Record<string, string | null>> = await this.#ask('read', { paths });
    return new Map(
      Object.entries(found).flatMap(([path, bytes]) => (bytes === null ? [] : [[path, Buffer.from(bytes, 'base64')]])),
    );
  }

  write(path: string, value: string): Promise<void> {
    return this.#ask('write', { path, value });
  }

  /** For open_by_handle_at. */
  handle(path: string): Promise<{ readonly kind: number; readonly bytes: string }> {
    return this.#ask('handle', { path });
  }

  /** `/proc/keys` of a user of the host. */
  keys(uid: number): Promise<string> {
    return this.#ask('keys', { uid });
  }

  /** Starts a process of this user on the host, with this in its environment. */
  bystander(secret: string, uid: number): Promise<number> {
    return this.#ask('bystander', { secret, uid });
  }

  end(pid: number): Promise<void> {
    return this.#ask('end', { pid });
  }

  /** Who reached the stand-in since the last call. */
  hits(): Promise<readonly string[]> {
    return this.#ask('hits', {});
  }

  /** The host's `/proc/sysvipc/shm`. */
  sharedMemory(): Promise<string> {
    return this.#ask('shared_memory', {});
  }

  /** Processes, mounts and control groups of these containers, in words. */
  traces(containers: readonly string[]): Promise<readonly string[]> {
    return this.#ask('traces', { containers });
  }

  modules(): Promise<readonly string[]> {
    return this.#ask('modules', {});
  }

  /** Wall clock less the time since boot, seconds, and the host's name. */
  clock(): Promise<{ readonly offset: number; readonly name: string }> {
    return this.#ask('clock', {});
  }

  async stop(): Promise<void> {
    this.stream.end();
    // It removes itself, and may have done so already.
    await this.container.wait({ condition: 'removed' }).catch(() => {});
  }

  async #ask<T>(op: string, request: object): Promise<T> {
    const answer = this.#answer();
    this.stream.write(`${JSON.stringify({ op, ...request })}\n`);
    return (await answer) as T;
  }

  #answer(): Promise<unknown> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
    });
  }

  #receive(bytes: Buffer): void {
    const lines = (this.#received + bytes.toString()).split('\n');
    this.#received = lines.pop() ?? '';
    for (const line of lines) {
      const waiting = this.#waiting.shift();
      const answer = JSON.parse(line) as { readonly ok?: unknown; readonly error?: string };
      if (answer.error === undefined) waiting?.resolve(answer.ok);
      else waiting?.reject(new Error(`the host watcher: ${answer.error}`));
    }
  }

  #ended(): void {
    for (const { reject } of this.#waiting) reject(new Error(`the host watcher ended: ${this.#complaint}`));
  }
}
