import { join } from 'node:path';
import { errorText } from '@lambda-fleet/common/errors';
import type { Logger } from '@lambda-fleet/common/logger';
import { listenForRuntime, SOCKET_NAME } from '../../channel/channel-listener.js';
import type { SandboxDriver, SandboxInstance, SandboxSpec } from '../sandbox-driver.js';
import { containerName, containerSpec, OWNER_LABEL, SANDBOX_UID, TASK_ROOT_INSIDE } from './container-spec.js';
import { DockerSandbox } from './docker-sandbox.js';
import { EngineClient } from './engine-client.js';
import { DEFAULT_IMAGE_PREFIX, RuntimeImages } from './runtime-images.js';

export interface DockerDriverOptions {
  /** For people who look at the engine. */
  readonly nodeId: string;
  /** Identifies this agent's data directory; leftovers are found by it. */
  readonly owner: string;
  /** `DOCKER_HOST`; undefined is the default socket. */
  readonly dockerHost: string | undefined;
  readonly log: Logger;
  /** Images are named prefix + runtime + `:current`. Default `lambda-fleet/runtime-`. */
  readonly imagePrefix?: string | undefined;
}

/** Sandboxes as containers of a Docker engine on this machine, isolated by runc. */
export class DockerDriver implements SandboxDriver {
  readonly name = 'docker';
  readonly isolation = ['runc'] as const;
  readonly #images: RuntimeImages;

  private constructor(
    private readonly engine: EngineClient,
    private readonly options: DockerDriverOptions,
  ) {
    this.#images = new RuntimeImages(engine, options.imagePrefix ?? DEFAULT_IMAGE_PREFIX);
  }

  /** Rejects when no engine answers, or when it cannot hold a sandbox to its limits. */
  static async open(options: DockerDriverOptions): Promise<DockerDriver> {
    const engine = await EngineClient.connect(options.dockerHost);
    const limits = await engine.limits().catch((err: unknown) => {
      const where = options.dockerHost ?? 'the default socket';
      throw new Error(`no Docker engine answers at ${where}: ${errorText(err)}`, { cause: err });
    });
    const missing = Object.entries(limits).flatMap(([limit, works]) => (works ? [] : [limit]));
    if (missing.length > 0) {
      throw new Error(
        `the Docker engine cannot limit ${missing.join(', ')} of containers; enable these cgroup controllers in the kernel`,
      );
    }
    return new DockerDriver(engine, options);
  }

  async runtimes() {
    return (await this.#images.present()).map(({ name, id }) => ({ name, digest: id }));
  }

  taskRootInside(): string {
    return TASK_ROOT_INSIDE;
  }

  async start(spec: SandboxSpec): Promise<SandboxInstance> {
    const image = await this.#images.get(spec.runtime);
    const { nodeId, owner } = this.options;
    const listener = await listenForRuntime({ path: join(spec.channelDir, SOCKET_NAME), uid: socketOwner() });
    try {
      const id = await this.engine.create(
        containerSpec({ sandbox: spec, nodeId, owner, imageId: image.id, entry: image.entry }),
      );
      // Before the start, or the first output is lost.
      const output = await this.engine.attach(id);
      const sandbox = new DockerSandbox({ engine: this.engine, containerId: id, output, listener });
      await this.engine.start(id);
      sandbox.measure().catch((err: unknown) => this.options.log.warn({ err, sandbox: spec.id }, 'cgroup_unreadable'));
      return sandbox;
    } catch (err) {
      listener.close();
      this.#images.forget(spec.runtime);
      // By name, because a create that came too late may still have made it.
      await this.engine.remove(containerName(owner, spec.id)).catch((removeErr: unknown) => {
        this.options.log.error({ err: removeErr, sandbox: spec.id }, 'failed_start_left_a_container');
      });
      throw new Error(`the Docker engine could not start a sandbox: ${errorText(err)}`, { cause: err });
    }
  }

  async removeLeftovers(): Promise<number> {
    const ids = await this.engine.listByLabel(`${OWNER_LABEL}=${this.options.owner}`);
    await Promise.all(ids.map((id) => this.engine.remove(id)));
    return ids.length;
  }
}

/** Only root may give a socket to another user; else everyone may connect who can name it. */
function socketOwner(): number | undefined {
  return process.getuid?.() === 0 ? SANDBOX_UID : undefined;
}
