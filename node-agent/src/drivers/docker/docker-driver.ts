import { arch } from 'node:os';
import { join } from 'node:path';
import { defaultDockerHost } from '@lambda-fleet/common/docker-host';
import { errorText } from '@lambda-fleet/common/errors';
import type { Logger } from '@lambda-fleet/common/logger';
import type { ContainerCreateOptions } from 'dockerode';
import { type ChannelListener, listenForRuntime, SOCKET_NAME } from '../../channel/channel-listener.js';
import { CgroupParent } from '../../host/cgroup-parent.js';
import type { ImageCache } from '../../images/image-cache.js';
import type {
  FoundSandbox,
  Isolation,
  Network,
  SandboxDriver,
  SandboxInstance,
  SandboxSpec,
} from '../sandbox-driver.js';
import { locateCgroup, thaw } from './cgroup.js';
import { OWNER_LABEL, SANDBOX_LABEL } from './container-labels.js';
import { containerName, containerSpec, TASK_ROOT_INSIDE } from './container-spec.js';
import { DockerSandbox } from './docker-sandbox.js';
import { EgressNetwork } from './egress/egress-network.js';
import type { EgressAttachment, EgressPlace } from './egress/egress-place.js';
import { EngineClient, type EngineDescription } from './engine-client.js';
import { type ChannelTransport, sharesKernel } from './engine-location.js';
import { egressProblems, inspectRunsc, RUNSC, RUNSC_EGRESS } from './gvisor/runsc-entry.js';
import { imageContainerSpec } from './image-container-spec.js';
import { DEFAULT_IMAGE_PREFIX, RuntimeImages } from './runtime-images.js';
import { SandboxUsers } from './sandbox-users.js';

/** Of a virtual machine's memory; the rest is for its system and the engine. */
const MEMORY_SHARE = 0.75;

export interface DockerDriverOptions {
  /** For people who look at the engine. */
  readonly nodeId: string;
  /** Identifies this agent's data directory; leftovers are found by it. */
  readonly owner: string;
  /** `DOCKER_HOST`; undefined is where an engine usually listens. */
  readonly dockerHost: string | undefined;
  readonly log: Logger;
  /** Images are named prefix + runtime + `:current`. Default `lambda-fleet/runtime-`. */
  readonly imagePrefix?: string | undefined;
  /** Default `auto`. */
  readonly channelTransport?: ChannelTransport | undefined;
  /** Undefined runs no container images. */
  readonly functionImages?: FunctionImages | undefined;
  /** Default: as the engine says. False treats it as an engine in a virtual machine. */
  readonly sharesKernel?: boolean | undefined;
  /** Undefined offers no sandboxes with a network. */
  readonly egress?: EgressOptions | undefined;
  /** Whether gVisor is offered where the engine has it. Default true. */
  readonly gvisor?: boolean | undefined;
  /** For tests that take a defence away, to see that something else fails then. */
  readonly alterSpec?: AlterSpec | undefined;
}

export interface EgressOptions {
  /** Where names are asked for, `address` or `address:port`. Default: the machine's own name servers. */
  readonly nameServers?: readonly string[] | undefined;
  /** Between two looks at the firewall. Default 5 s. */
  readonly verifyIntervalMs?: number | undefined;
}

/** What sandboxes of container images are made of. */
export interface FunctionImages {
  readonly cache: ImageCache;
  /** The static init on the host, which anybody may run. */
  readonly init: string;
}

export type AlterSpec = (spec: ContainerCreateOptions) => ContainerCreateOptions;

/** Sandboxes as containers of a Docker engine on this machine, isolated by runc or by gVisor. */
export class DockerDriver implements SandboxDriver {
  readonly name = 'docker';
  #isolation: readonly Isolation[] = ['runc'];
  readonly adjustable: boolean;
  readonly memoryBytesMax: number | undefined;
  readonly #images: RuntimeImages;
  readonly #users: SandboxUsers;
  readonly #cgroupParent: CgroupParent;
  readonly #transport: 'socket' | 'attach';
  readonly #sharesKernel: boolean;
  #egress: EgressNetwork | undefined;
  /** Why there is no egress network, for people; undefined where there is one, or none was asked for. */
  egressProblem: string | undefined;
  /** Containers that are attached to it. */
  readonly #attached = new Set<string>();

  private constructor(
    private readonly engine: EngineClient,
    description: EngineDescription,
    private readonly options: DockerDriverOptions,
  ) {
    const { channelTransport = 'auto' } = options;
    this.#sharesKernel = options.sharesKernel ?? sharesKernel(description.operatingSystem, process.platform);
    // Only root writes to cgroups.
    this.adjustable = this.#sharesKernel && process.getuid?.() === 0;
    this.#transport = channelTransport === 'auto' ? (this.#sharesKernel ? 'socket' : 'attach') : channelTransport;
    this.memoryBytesMax = this.#sharesKernel ? undefined : Math.floor(description.memoryBytes * MEMORY_SHARE);
    this.#users = new SandboxUsers(options.owner);
    this.#cgroupParent = new CgroupParent('sandboxes', options.owner, description.cgroups.driver);
    this.#images = new RuntimeImages(engine, options.imagePrefix ?? DEFAULT_IMAGE_PREFIX);
  }

  /** Rejects when no engine answers, or when it cannot hold a sandbox to its limits. */
  static async open(options: DockerDriverOptions): Promise<DockerDriver> {
    const { dockerHost = defaultDockerHost() } = options;
    const engine = await EngineClient.connect(dockerHost);
    const description = await engine.describe().catch((err: unknown) => {
      throw new Error(`no Docker engine answers at ${dockerHost}: ${errorText(err)}`, { cause: err });
    });
    const missing = Object.entries(description.limits).flatMap(([limit, works]) => (works ? [] : [limit]));
    if (missing.length > 0) {
      throw new Error(
        `the Docker engine cannot limit ${missing.join(', ')} of containers; enable these cgroup controllers in the kernel`,
      );
    }
    if (!description.filtersCalls) {
      throw new Error('the Docker engine cannot filter the system calls of containers; it needs a kernel with seccomp');
    }
    const driver = new DockerDriver(engine, description, options);
    const { operatingSystem, memoryBytes } = description;
    options.log.info({ dockerHost, operatingSystem, memoryBytes, transport: driver.#transport }, 'engine_found');
    await driver.#findGvisor(description);
    if (options.egress !== undefined) await driver.#openEgress(description, options.egress);
    return driver;
  }

  get isolation(): readonly Isolation[] {
    return this.#isolation;
  }

  get networks(): readonly Network[] {
    return this.#egress?.working === true ? ['none', 'egress'] : ['none'];
  }

  /** Name of its egress network in the engine. */
  get egressNetwork(): string | undefined {
    return this.#egress?.name;
  }

  onOfferChange(listener: () => void): void {
    this.#egress?.onChange(listener);
  }

  async close(): Promise<void> {
    await this.#egress?.close();
    await this.#cgroupParent.remove();
  }

  async runtimes() {
    const present = (await this.#images.present()).map(({ name, id }) => ({ name, digest: id }));
    return this.options.functionImages === undefined
      ? present
      : [...present, { name: 'image' as const, digest: arch() }];
  }

  taskRootInside(): string {
    return TASK_ROOT_INSIDE;
  }

  async start(spec: SandboxSpec): Promise<SandboxInstance> {
    const { owner } = this.options;
    const transport = this.#transport;
    const { image } = spec;
    const lease = image && (await this.#functionImages().cache.acquire(image));
    const user = this.#users.take();
    let place: EgressPlace | undefined;
    let listener: ChannelListener | undefined;
    try {
      if (spec.network === 'egress') place = this.#takePlace();
      if (transport === 'socket') listener = await listenOnSocket(spec.channelDir, user);
      const attachment = await place?.prepare(spec.channelDir);
      const asked = await this.#containerSpec(spec, user, attachment, lease?.name);
      const id = await this.engine.create(this.options.alterSpec?.(asked) ?? asked);
      // Before the start, or the first output is lost.
      const attached = await this.engine.attach(id, transport === 'attach');
      const onRemoved = (): void => {
        lease?.release();
        this.#users.giveBack(user);
      };
      const sandbox = new DockerSandbox({ engine: this.engine, containerId: id, attached, listener, place, onRemoved });
      await this.engine.start(id);
      this.#cgroupParent.yieldToOthers();
      if (place !== undefined) await this.#secure(place, id, sandbox);
      // The runtime boots meanwhile.
      if (this.#sharesKernel) await this.#measure(sandbox, spec.id);
      return sandbox;
    } catch (err) {
      listener?.close();
      this.#images.forget(spec.runtime);
      // By name, because a create that came too late may still have made it.
      await this.engine.remove(containerName(owner, spec.id)).then(
        () => {
          this.#users.giveBack(user);
          return place?.leave();
        },
        (removeErr: unknown) => {
          this.options.log.error({ err: removeErr, sandbox: spec.id }, 'failed_start_left_a_container');
        },
      );
      lease?.release();
      throw new Error(`the Docker engine could not start a sandbox: ${errorText(err)}`, { cause: err });
    }
  }

  async #containerSpec(
    sandbox: SandboxSpec,
    user: number,
    attachment: EgressAttachment | undefined,
    functionImage: string | undefined,
  ): Promise<ContainerCreateOptions> {
    const { nodeId, owner } = this.options;
    const gvisor = attachment === undefined ? RUNSC : RUNSC_EGRESS;
    const engineRuntime = sandbox.isolation === 'gvisor' ? gvisor : undefined;
    const cgroupParent = this.#cgroupParent.name;
    const input = { sandbox, user, transport: this.#transport, engineRuntime, attachment, nodeId, owner, cgroupParent };
    if (functionImage !== undefined) {
      return imageContainerSpec({ ...input, imageId: functionImage }, this.#functionImages().init);
    }
    const { id, entry } = await this.#images.get(sandbox.runtime);
    return containerSpec({ ...input, imageId: id, entry });
  }

  #functionImages(): FunctionImages {
    const { functionImages } = this.options;
    if (functionImages === undefined) throw new Error('this node runs no container images');
    return functionImages;
  }

  async find(): Promise<readonly FoundSandbox[]> {
    const containers = await this.engine.listByLabel(`${OWNER_LABEL}=${this.options.owner}`);
    return containers.map(({ id, labels }) => ({
      id: labels[SANDBOX_LABEL] ?? id,
      remove: () => this.#removeContainer(id),
    }));
  }

  async removeLeftovers(): Promise<number> {
    const found = await this.find();
    await Promise.all(found.map((sandbox) => sandbox.remove()));
    await this.#cgroupParent.remove();
    return found.length;
  }

  /** It may be frozen, and removing a frozen container hangs. */
  async #removeContainer(id: string): Promise<void> {
    const pid = (await this.engine.inspect(id))?.State.Pid ?? 0;
    const place = pid > 0 && this.#sharesKernel ? await locateCgroup(pid, id) : undefined;
    if (place !== undefined && this.adjustable) thaw(place);
    await this.engine.remove(id);
  }

  async #findGvisor({ runtimes }: EngineDescription): Promise<void> {
    const entry = runtimes.get(RUNSC);
    if (entry === undefined || this.options.gvisor === false) return;
    const demands = { network: 'none', hostSockets: this.#transport === 'socket' } as const;
    const findings = await inspectRunsc(entry, demands, this.#sharesKernel);
    const failed = findings.filter(({ severity }) => severity === 'failed');
    if (failed.length === 0) this.#isolation = ['runc', 'gvisor'];
    else this.options.log.error({ runtime: RUNSC, findings: failed }, 'gvisor_not_offered');
  }

  /** Hello has no word for pairs: a network is offered when every isolation can have it. */
  async #openEgress({ runtimes }: EngineDescription, options: EgressOptions): Promise<void> {
    const { owner, log } = this.options;
    try {
      if (!this.#sharesKernel) throw new Error('the engine runs under another kernel, whose firewall is out of reach');
      if (this.#isolation.includes('gvisor')) {
        const hostSockets = this.#transport === 'socket';
        const problems = await egressProblems(runtimes.get(RUNSC_EGRESS), hostSockets);
        if (problems.length > 0) throw new Error(problems.join('; '));
      }
      this.#egress = await EgressNetwork.open({ engine: this.engine, owner, ...options, log });
      this.#egress.onChange(() => void this.#endAttached());
      log.info({ network: this.#egress.name, subnet: this.#egress.subnet }, 'egress_network_made');
    } catch (err) {
      this.egressProblem = errorText(err);
      log.warn({ why: this.egressProblem }, 'egress_not_offered');
    }
  }

  #takePlace(): EgressPlace {
    if (this.#egress === undefined) throw new Error('this node has no egress network');
    return this.#egress.take();
  }

  async #secure(place: EgressPlace, containerId: string, sandbox: DockerSandbox): Promise<void> {
    const pid = (await this.engine.inspect(containerId))?.State.Pid ?? 0;
    if (pid === 0) throw new Error('it ended at once');
    await place.secure(pid);
    this.#attached.add(containerId);
    void sandbox.exited.then(() => this.#attached.delete(containerId));
  }

  /** Without their firewall sandboxes may not live. They look as if they had been killed from outside. */
  async #endAttached(): Promise<void> {
    if (this.#egress?.working === true) return;
    await Promise.all(
      [...this.#attached].map((id) =>
        this.#removeContainer(id).catch((err: unknown) => {
          this.options.log.error({ err, container: id }, 'unguarded_sandbox_not_removed');
        }),
      ),
    );
  }

  async #measure(sandbox: DockerSandbox, id: string): Promise<void> {
    try {
      await sandbox.measure();
    } catch (err) {
      // Without it usage is unknown, and limits that have to change cannot.
      this.options.log.warn({ err, sandbox: id }, 'cgroup_unreadable');
    }
  }
}

function listenOnSocket(directory: string, user: number): Promise<ChannelListener> {
  // Only root may give a socket to another user; else everyone may connect who can name it.
  const uid = process.getuid?.() === 0 ? user : undefined;
  return listenForRuntime({ path: join(directory, SOCKET_NAME), uid });
}
