import { existsSync, readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import v8 from 'node:v8';
import { runInNewContext } from 'node:vm';
import type Docker from 'dockerode';
import { OWNER_LABEL } from '../src/drivers/docker/container-labels.js';
import type { HostWatcher } from './host-watcher.js';

const MB = 1024 * 1024;
const CGROUP_ROOT = '/sys/fs/cgroup';

/** The engine's event of a new container. */
interface Created {
  readonly id: string;
  readonly Actor: { readonly Attributes: Readonly<Record<string, string>> };
}

/** What there was before anything was attempted, and whether that is all there is afterwards. This process is the agent. */
export class Leftovers {
  /** Of every sandbox's container that was made meanwhile. */
  readonly #containers = new Set<string>();
  /** Of the agents that made them; their sockets' folders are named for it. */
  readonly #owners = new Set<string>();
  readonly #descriptors = descriptorKinds();
  #memoryBytes = 0;
  #received = '';

  private constructor(
    private readonly host: HostWatcher,
    private readonly docker: Docker,
    private readonly events: Readable,
  ) {}

  static async begin(host: HostWatcher, docker: Docker): Promise<Leftovers> {
    const filters = { type: ['container'], event: ['create'], label: [OWNER_LABEL] };
    const events = (await docker.getEvents({ filters: JSON.stringify(filters) })) as unknown as Readable;
    // Leaves a connection open for the next call, as every later call does.
    await docker.ping();
    const leftovers = new Leftovers(host, docker, events);
    events.on('data', (chunk: Buffer) => leftovers.#receive(chunk));
    return leftovers;
  }

  /** Everything has been loaded, compiled and used as it usually is: memory is measured from here. */
  warm(): void {
    this.#memoryBytes = memoryAfterCollection();
  }

  /** What is left, in words. To be called when the host is closed. */
  async look(): Promise<string[]> {
    const existing = await this.docker.listContainers({ all: true, filters: { label: [OWNER_LABEL] } });
    const ours = existing.filter(({ Id }) => this.#containers.has(Id));
    const kept = descriptorKinds();
    return [
      ...(this.#containers.size === 0 ? ['no container was seen at all: the engine tells no events'] : []),
      ...ours.map(({ Names }) => `container ${Names.join()}`),
      ...(await this.host.traces([...this.#containers])),
      ...[...this.#owners].map(socketFolder).filter(existsSync),
      ...[...this.#owners].flatMap(cgroupsOf),
      ...[...kept].flatMap(([kind, count]) => {
        const before = this.#descriptors.get(kind) ?? 0;
        return count > before ? [`${count - before} more descriptors of the agent: ${kind}`] : [];
      }),
    ];
  }

  memoryGrowthMb(): number {
    return Math.round((memoryAfterCollection() - this.#memoryBytes) / MB);
  }

  async end(): Promise<void> {
    this.events.destroy();
  }

  #receive(chunk: Buffer): void {
    const lines = (this.#received + chunk.toString()).split('\n');
    this.#received = lines.pop() ?? '';
    for (const line of lines) {
      const { id, Actor } = JSON.parse(line) as Created;
      this.#containers.add(id);
      this.#owners.add(Actor.Attributes[OWNER_LABEL] ?? '');
    }
  }
}

/** What an agent of this owner has its sockets in, as root. */
function socketFolder(owner: string): string {
  return `/run/lambda/${owner.slice(0, 8)}`;
}

/** What holds the containers of an agent of this owner, in any hierarchy. */
function cgroupsOf(owner: string): string[] {
  const hierarchies = readdirSync(CGROUP_ROOT).map((name) => join(CGROUP_ROOT, name));
  const folders = [CGROUP_ROOT, ...hierarchies.filter((path) => statSync(path).isDirectory())];
  return folders.flatMap((folder) =>
    readdirSync(folder)
      .filter((name) => owner !== '' && name.startsWith('lambda') && name.includes(owner))
      .map((name) => `cgroup ${join(folder, name)}`),
  );
}

/** How many descriptors this process has of each kind. */
function descriptorKinds(): Map<string, number> {
  const kinds = new Map<string, number>();
  for (const fd of readdirSync('/proc/self/fd')) {
    let target: string;
    try {
      target = readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      // That of the listing itself.
      continue;
    }
    const kind = target.replace(/:\[\d+\]$/, '');
    kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
  }
  return kinds;
}

function memoryAfterCollection(): number {
  v8.setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  for (let times = 0; times < 3; times += 1) collect();
  return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]) * 1024;
}
