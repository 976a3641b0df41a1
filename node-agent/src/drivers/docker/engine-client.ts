import type { Duplex } from 'node:stream';
import { DeadlineExceeded } from '@lambda-fleet/common/deadline';
import { parseDockerHost } from '@lambda-fleet/common/docker-host';
import type Docker from 'dockerode';
import type {
  ContainerCreateOptions,
  ContainerInspectInfo,
  ImageInspectInfo,
  NetworkCreateOptions,
  NetworkInspectInfo,
} from 'dockerode';

/** Milliseconds. A healthy engine answers these in 1–150; a hanging one must not hang the agent. */
const LOOK_DEADLINE_MS = 5_000;
const CREATE_DEADLINE_MS = 15_000;
const START_DEADLINE_MS = 30_000;
const REMOVE_DEADLINE_MS = 20_000;

export interface EngineDescription {
  readonly version: string;
  /** Of the machine that containers run on, such as `Debian GNU/Linux 12 (bookworm)` or `Docker Desktop`. */
  readonly operatingSystem: string;
  readonly memoryBytes: number;
  /** What it can isolate containers with, by its own names, with the arguments that it gives to each. */
  readonly runtimes: ReadonlyMap<string, EngineRuntime>;
  /** What it can limit of a container. */
  readonly limits: { readonly memory: boolean; readonly cpu: boolean; readonly pids: boolean };
  /** Without it, memory and swap together have no limit. */
  readonly limitsSwap: boolean;
  readonly cgroups: { readonly driver: string; readonly version: string };
  /** Whether it can filter the system calls of a container. */
  readonly filtersCalls: boolean;
}

export interface EngineRuntime {
  readonly path: string;
  readonly args: readonly string[];
}

export interface LabelledContainer {
  readonly id: string;
  readonly labels: Readonly<Record<string, string>>;
}

export class SubnetTaken extends Error {
  override readonly name = 'SubnetTaken';
}

/**
 * The few calls to a Docker engine that sandboxes need, each with a deadline after which its request is aborted and
 * {@link DeadlineExceeded} thrown.
 */
export class EngineClient {
  private constructor(private readonly docker: Docker) {}

  /**
   * @param host `unix:///path`, `npipe://path` or `tcp://host:port`.
   */
  static async connect(host: string): Promise<EngineClient> {
    // Imported here because it takes 100 ms and 20 MB that an agent without Docker does not need.
    const { default: DockerClient } = await import('dockerode');
    return new EngineClient(new DockerClient(connectionOptions(host)));
  }

  async describe(): Promise<EngineDescription> {
    const info = await bounded('asking the engine', LOOK_DEADLINE_MS, () => this.docker.info());
    return {
      version: String(info.ServerVersion),
      operatingSystem: String(info.OperatingSystem),
      memoryBytes: Number(info.MemTotal),
      runtimes: runtimesOf(info.Runtimes),
      limits: { memory: info.MemoryLimit === true, cpu: info.CpuCfsQuota === true, pids: info.PidsLimit === true },
      limitsSwap: info.SwapLimit === true,
      cgroups: { driver: String(info.CgroupDriver), version: String(info.CgroupVersion ?? '1') },
      filtersCalls: ((info.SecurityOptions ?? []) as readonly string[]).some((name) => name.startsWith('name=seccomp')),
    };
  }

  /** Undefined when there is no such image. */
  inspectImage(name: string): Promise<ImageInspectInfo | undefined> {
    return bounded('inspecting an image', LOOK_DEADLINE_MS, () => absent(this.docker.getImage(name).inspect()));
  }

  /** The new container's id. */
  async create(spec: ContainerCreateOptions): Promise<string> {
    const container = await bounded('creating a container', CREATE_DEADLINE_MS, (abortSignal) =>
      this.docker.createContainer({ ...spec, abortSignal }),
    );
    return container.id;
  }

  /** The container's multiplexed output, from before its start to its end, and with `stdin` a way to its input. */
  async attach(id: string, stdin: boolean): Promise<Duplex> {
    const options = { stream: true, stdin, hijack: stdin, stdout: true, stderr: true, logs: false };
    // No abort signal: it would stay bound to the stream and cut it later.
    const stream = await bounded('attaching to a container', LOOK_DEADLINE_MS, () =>
      this.docker.getContainer(id).attach(options),
    );
    return stream as unknown as Duplex;
  }

  async start(id: string): Promise<void> {
    await bounded('starting a container', START_DEADLINE_MS, (abortSignal) =>
      this.docker.getContainer(id).start({ abortSignal }),
    );
  }

  inspect(id: string): Promise<ContainerInspectInfo | undefined> {
    return bounded('inspecting a container', LOOK_DEADLINE_MS, (abortSignal) =>
      absent(this.docker.getContainer(id).inspect({ abortSignal })),
    );
  }

  /** The exit status of a container, as soon as it is not running. Waits as long as that takes, by its nature. */
  async wait(id: string): Promise<number | undefined> {
    const ended = await absent(this.docker.getContainer(id).wait() as Promise<{ readonly StatusCode: number }>);
    return ended?.StatusCode;
  }

  /** Signals the first process of a container. */
  async signal(id: string, signal: 'SIGTERM'): Promise<void> {
    await bounded('signalling a container', LOOK_DEADLINE_MS, (abortSignal) =>
      this.docker.getContainer(id).kill({ signal, abortSignal }),
    );
  }

  /** Kills and removes a container. Succeeds when it is gone already. */
  async remove(id: string): Promise<void> {
    await bounded('removing a container', REMOVE_DEADLINE_MS, async (abortSignal) => {
      const container = this.docker.getContainer(id);
      try {
        await absent(container.remove({ force: true, v: true, abortSignal }));
      } catch (err) {
        if (!hasStatus(err, 409)) throw err;
        // Somebody else is removing it; it is not gone before they are done.
        await absent(container.wait({ condition: 'removed', abortSignal }));
      }
    });
  }

  /** Rejects with {@link SubnetTaken} when another network of the engine has addresses of its subnet. */
  async createNetwork(spec: NetworkCreateOptions): Promise<void> {
    try {
      await bounded('creating a network', CREATE_DEADLINE_MS, (abortSignal) =>
        this.docker.createNetwork({ ...spec, abortSignal }),
      );
    } catch (err) {
      // The engine has no other word for it, and gives it the statuses 403 and 500.
      if (err instanceof Error && /overlaps/i.test(err.message)) throw new SubnetTaken(err.message);
      throw err;
    }
  }

  /** Undefined when there is none of this name. */
  inspectNetwork(name: string): Promise<NetworkInspectInfo | undefined> {
    return bounded('inspecting a network', LOOK_DEADLINE_MS, () => absent(this.docker.getNetwork(name).inspect()));
  }

  /** Succeeds when it is gone already; rejects while containers are attached. */
  async removeNetwork(name: string): Promise<void> {
    await bounded('removing a network', LOOK_DEADLINE_MS, () => absent(this.docker.getNetwork(name).remove()));
  }

  /** All containers with a label, running or not. */
  async listByLabel(label: string): Promise<readonly LabelledContainer[]> {
    const containers = await bounded('listing containers', LOOK_DEADLINE_MS, (abortSignal) =>
      this.docker.listContainers({ all: true, filters: { label: [label] }, abortSignal }),
    );
    return containers.map((container) => ({ id: container.Id, labels: container.Labels }));
  }
}

function runtimesOf(reported: unknown): ReadonlyMap<string, EngineRuntime> {
  const entries = Object.entries((reported ?? {}) as Record<string, { path?: string; runtimeArgs?: string[] | null }>);
  return new Map(entries.map(([name, { path, runtimeArgs }]) => [name, { path: path ?? '', args: runtimeArgs ?? [] }]));
}

export function connectionOptions(host: string): object {
  const address = parseDockerHost(host);
  if (address === undefined) {
    throw new Error(`DOCKER_HOST is ${host}, which has to begin with unix://, npipe:// or tcp://`);
  }
  return 'host' in address ? { protocol: 'http', ...address } : address;
}

/** Undefined where the engine says that there is no such thing. */
export async function absent<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work;
  } catch (err) {
    if (hasStatus(err, 404)) return undefined;
    throw err;
  }
}

export function hasStatus(err: unknown, status: number): boolean {
  return err instanceof Error && 'statusCode' in err && err.statusCode === status;
}

export async function bounded<T>(
  what: string,
  deadlineMs: number,
  call: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const abort = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(new DeadlineExceeded(what, deadlineMs));
      abort.abort();
    }, deadlineMs);
  });
  try {
    return await Promise.race([call(abort.signal), late]);
  } finally {
    clearTimeout(timer);
  }
}
