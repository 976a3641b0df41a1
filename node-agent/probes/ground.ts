import { randomBytes } from 'node:crypto';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { VersionSpec } from '@lambda-fleet/proto';
import type Docker from 'dockerode';
import type { ContainerCreateOptions } from 'dockerode';
import { expect } from 'vitest';
import type { CallOptions, Ended, HostUnderTest } from '../test-support/host-under-test.js';
import type { HostWatcher, SeenCgroup, SeenProcess } from './host-watcher.js';
import type { ProbeIsolation } from './probe.js';

const MB = 1024 * 1024;
const USUAL = `
  export const handler = async (event) => {
    for (let line = 0; line < 20_000; line += 1) console.log('line', line, 'x'.repeat(80));
    return event;
  };`;
const HOSTILE = new URL('hostile/', import.meta.url);

/** What a hostile function said, and the sandbox it was in. */
export interface Attempt {
  // biome-ignore lint/suspicious/noExplicitAny: each attempt has its own answer, which no judgement rests on
  readonly said: any;
  readonly container: string;
  readonly sandboxId: string;
}

export interface GroundOptions {
  readonly isolation: ProbeIsolation;
  readonly node: HostUnderTest;
  readonly host: HostWatcher;
  readonly docker: Docker;
  readonly unprotected?: boolean;
}

/** Where probes of one isolation take place: a node, the host as it is seen from outside, and a hostile function. */
export class Ground {
  readonly isolation: ProbeIsolation;
  readonly node: HostUnderTest;
  readonly host: HostWatcher;
  readonly docker: Docker;
  /** A text that no sandbox may ever read; it stands in a file of the host and in the agent's environment. */
  readonly secret = randomBytes(16).toString('hex');
  /** Whether a defence was taken away: attempts that could harm the host for good then try their most harmless variant. */
  readonly unprotected: boolean;
  /** Called with what the engine is asked for, before it is. */
  onStart: ((spec: ContainerCreateOptions) => void) | undefined;
  readonly #deployed: VersionSpec[] = [];
  #hostile: VersionSpec | undefined;

  constructor(options: GroundOptions) {
    this.unprotected = options.unprotected ?? false;
    this.isolation = options.isolation;
    this.node = options.node;
    this.host = options.host;
    this.docker = options.docker;
  }

  /** A file of the host with the secret, on the filesystem that code lies on. */
  async secretFile(): Promise<string> {
    const folder = join(this.node.directory, 'secrets');
    await mkdir(join(folder, 'below'), { recursive: true });
    const path = join(folder, `secret-${this.secret}`);
    await writeFile(path, this.secret);
    return path;
  }

  /** Lets the hostile Python function try something, in the sandbox where it tried the things before. */
  async attempt(name: string, args: object = {}): Promise<Attempt> {
    this.#hostile ??= await this.deployHostile();
    return this.attemptIn(this.#hostile, name, args);
  }

  /** A version of the hostile function of its own: for what its sandbox does not survive, or what has to be another one. */
  async deployHostile(spec: Partial<VersionSpec> = {}): Promise<VersionSpec> {
    // An artifact of its own: one that an unprotected sandbox has spoilt must not be anybody else's.
    return this.deploy(
      { ...(await hostileFiles()), [`${randomBytes(8).toString('hex')}.txt`]: '' },
      {
        runtime: 'python',
        handler: 'main.handler',
        memoryMb: 256,
        // Every attempt of the suite ends earlier by itself.
        timeoutMs: 30_000,
        ...spec,
      },
    );
  }

  async deploy(
    files: string | Readonly<Record<string, string>>,
    spec: Partial<VersionSpec> = {},
  ): Promise<VersionSpec> {
    const version = await this.node.deploy(files, spec);
    this.#deployed.push(version);
    return version;
  }

  /** Throws when the function ends in an error: then nothing was attempted. */
  async attemptIn(spec: VersionSpec, name: string, args: object = {}): Promise<Attempt> {
    const end = await this.call(spec, { event: { attempt: name, with: args } });
    if (end.error !== undefined) {
      throw new Error(`${name} was not attempted: ${end.error.errorType}: ${end.error.errorMessage}`);
    }
    const sandboxId = end.receipt?.sandboxId ?? '';
    return { said: JSON.parse(end.text), container: await this.containerOf(sandboxId), sandboxId };
  }

  /** A small sandbox of its own that is up, for an attempt that it may not survive. */
  async begin(spec: Partial<VersionSpec> = {}): Promise<Attempt & { readonly spec: VersionSpec }> {
    const version = await this.deployHostile({ memoryMb: 128, timeoutMs: 20_000, ...spec });
    return { ...(await this.attemptIn(version, 'trying.tidy')), spec: version };
  }

  call(spec: VersionSpec, options: CallOptions = {}): Promise<Ended> {
    return this.node.call(spec, { isolation: this.isolation, ...options });
  }

  /** Ends what attempts left running in the shared sandbox. */
  async tidy(): Promise<void> {
    if (this.#hostile !== undefined) await this.attempt('trying.tidy');
  }

  processes({ container }: Attempt): Promise<readonly SeenProcess[]> {
    return this.host.processes(container);
  }

  async cgroup({ container }: Attempt): Promise<SeenCgroup> {
    const found = await this.host.cgroup(container);
    if (found === null) throw new Error('the sandbox has no process any more');
    return found;
  }

  /** The host's number of the user that a sandbox runs as. */
  async userOf({ container }: Attempt): Promise<number> {
    const { Config } = await this.docker.getContainer(container).inspect();
    return Number(Config.User.split(':')[0]);
  }

  async containerOf(sandboxId: string): Promise<string> {
    const [found] = await this.docker.listContainers({ filters: { label: [`lambda.sandbox=${sandboxId}`] } });
    if (found === undefined) throw new Error(`sandbox ${sandboxId} has no container`);
    return found.Id;
  }

  /** Resolves when nothing is left of a sandbox. */
  async gone({ container, sandboxId }: Attempt): Promise<void> {
    const left = async () => [
      ...(await this.docker.listContainers({ all: true, filters: { id: [container] } })).map(({ Id }) => Id),
      ...(await readdir(join(this.node.dataDir, 'sandboxes'))).filter((name) => name === sandboxId),
    ];
    await expect.poll(left, { timeout: 20_000 }).toEqual([]);
  }

  /**
   * Does what an agent usually does, as much of it as it lets a function do: both runtimes, large events and results, logs
   * to their limit. Its allocator keeps for itself what these once took.
   */
  async warmUp(): Promise<void> {
    const attempt = await this.attempt('trying.tidy');
    await this.processes(attempt);
    const usual = await this.deploy(USUAL, { memoryMb: 256 });
    const event = 'x'.repeat(5 * MB);
    for (let times = 0; times < 4; times += 1) await this.call(usual, { event });
  }

  /** Gives up all sandboxes of functions that were deployed on this ground. */
  forget(): void {
    this.node.host.runner.forget(this.#deployed.map(({ versionId }) => versionId));
  }

  /** The same on another node. */
  on(node: HostUnderTest): Ground {
    const { isolation, host, docker, unprotected } = this;
    return new Ground({ isolation, node, host, docker, unprotected });
  }

  /** A ground on the same node whose hostile function has a sandbox of its own. */
  afresh(options: Pick<GroundOptions, 'unprotected'>): Ground {
    const { isolation, node, host, docker } = this;
    return new Ground({ isolation, node, host, docker, ...options });
  }
}

export function hostileSource(name: string): Promise<string> {
  return readFile(new URL(name, HOSTILE), 'utf8');
}

async function hostileFiles(): Promise<Record<string, string>> {
  const names = (await readdir(HOSTILE)).filter((name) => name.endsWith('.py'));
  const texts = await Promise.all(names.map((name) => readFile(new URL(name, HOSTILE), 'utf8')));
  return Object.fromEntries(names.map((name, at) => [name, texts[at] ?? '']));
}
