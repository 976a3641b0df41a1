import { chmod, mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { REPOSITORY } from '../fleet/fleet.js';
import { freePorts } from '../fleet/free-ports.js';
import { type HttpAnswer, httpCall } from '../fleet/http-call.js';
import { type ProgramResult, runProgram } from '../fleet/run-program.js';
import { Balancer } from './balancer.js';
import { ClusterPostgres } from './cluster-postgres.js';
import { ClusterProcess } from './cluster-process.js';
import { ClusterRedis } from './cluster-redis.js';
import { NetworkNamespace } from './network-namespace.js';
import { SmallDisk } from './small-disk.js';
import { writeCertificates } from './write-certificates.js';

export interface AgentPlan {
  readonly driver: 'docker' | 'process';
  readonly labels?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** In a network namespace of its own, whose cable can be cut. Needs root. */
  readonly cable?: boolean;
}

export interface ClusterPlan {
  readonly controlPlanes: number;
  readonly agents: readonly AgentPlan[];
  /** PostgreSQL on a disk of its own of so many megabytes. */
  readonly diskMb?: number;
  /** Whether the control planes share a ledger in Redis. */
  readonly redis?: boolean;
  readonly controlPlaneEnv?: Readonly<Record<string, string>>;
}

export interface Replica {
  readonly process: ClusterProcess;
  readonly httpPort: number;
  readonly grpcPort: number;
  readonly enrollPort: number;
}

export interface ClusterAgent {
  readonly id: string;
  readonly process: ClusterProcess;
  readonly cable: NetworkNamespace | undefined;
}

const COMMON_ENVIRONMENT: Readonly<Record<string, string>> = {
  PATH: process.env.PATH ?? '',
  ...(process.env.DOCKER_HOST === undefined ? {} : { DOCKER_HOST: process.env.DOCKER_HOST }),
  LAMBDA_LOG_LEVEL: 'info',
};
const CLI = join(REPOSITORY, 'cli/bin/lambda.mjs');
const READY_DEADLINE_MS = 60_000;

/**
 * Several control planes on one database, several agents that dial all of them, and a balancer in front: every process is the
 * real one, on this machine.
 */
export class Cluster {
  /** Mounted only when it was planned. */
  readonly disk: SmallDisk;
  readonly postgres: ClusterPostgres;
  /** Runs only when it was planned. */
  readonly redis: ClusterRedis;
  readonly #replicas: Replica[] = [];
  readonly #agents: ClusterAgent[] = [];
  readonly #cables: NetworkNamespace[] = [];
  #mounted = false;
  #balancer: Balancer | undefined;

  private constructor(
    /** Removed by `dispose`. Sandboxes may look into it. */
    readonly folder: string,
  ) {
    this.disk = new SmallDisk(join(folder, 'disk'));
    this.postgres = new ClusterPostgres({ dataDir: join(folder, 'disk', 'postgres'), socketDir: join(folder, 's') });
    this.redis = new ClusterRedis(join(folder, 'redis.sock'));
  }

  static async start(plan: ClusterPlan): Promise<Cluster> {
    const folder = await mkdtemp(join(tmpdir(), 'lf-cluster-'));
    await chmod(folder, 0o711);
    const cluster = new Cluster(folder);
    try {
      await cluster.#start(plan);
    } catch (err) {
      await cluster.dispose();
      throw err;
    }
    return cluster;
  }

  get replicas(): readonly Replica[] {
    return this.#replicas;
  }

  get agents(): readonly ClusterAgent[] {
    return this.#agents;
  }

  get balancer(): Balancer {
    if (this.#balancer === undefined) throw new Error('the cluster has not started');
    return this.#balancer;
  }

  async apiKey(): Promise<string> {
    return (await readFile(join(this.folder, 'api-key'), 'utf8')).trim();
  }

  /** A request to the API of one replica, the first unless told otherwise. */
  async api(method: string, path: string, body?: unknown, replica = this.#replicas[0]): Promise<HttpAnswer> {
    if (replica === undefined) throw new Error('no replica');
    const headers: Record<string, string> = { authorization: `Bearer ${await this.apiKey()}` };
    if (body !== undefined) headers['content-type'] = 'application/json';
    const sent = body === undefined ? undefined : JSON.stringify(body);
    return await httpCall({
      port: replica.httpPort,
      method,
      path,
      headers,
      ...(sent === undefined ? {} : { body: sent }),
    });
  }

  /** The CLI, pointed at one replica, the first unless told otherwise. */
  async cli(args: readonly string[], replica = this.#replicas[0]): Promise<ProgramResult> {
    const env = {
      PATH: process.env.PATH ?? '',
      HOME: this.folder,
      LAMBDA_ENDPOINT: `http://127.0.0.1:${replica?.httpPort}`,
      LAMBDA_API_KEY: await this.apiKey(),
      NO_COLOR: '1',
    };
    return await runProgram(process.execPath, [CLI, ...args], { env });
  }

  /** Waits until the balancer sees all of the replicas ready. */
  async ready(): Promise<void> {
    const giveUpAt = Date.now() + READY_DEADLINE_MS;
    while (this.balancer.readyCount < this.#replicas.length) {
      if (Date.now() > giveUpAt) throw new Error(`only ${this.balancer.readyCount} replicas are ready`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  /** Names of processes that have ended although nobody stopped them. */
  ended(): string[] {
    return [...this.#replicas, ...this.#agents]
      .map((one) => one.process)
      .filter((one) => one.ended)
      .map((one) => one.name);
  }

  /** Stops everything and removes its data. */
  async dispose(): Promise<void> {
    this.#balancer?.close();
    await Promise.all(this.#agents.map((agent) => agent.process.stop('SIGINT')));
    await Promise.all(this.#replicas.map((replica) => replica.process.stop('SIGINT')));
    await Promise.all([this.postgres.stop(), this.redis.stop()]);
    if (this.#mounted) await this.disk.unmount();
    for (const cable of this.#cables) await cable.remove();
    await rm(this.folder, { recursive: true, force: true });
  }

  async #start(plan: ClusterPlan): Promise<void> {
    const cables = await Promise.all(
      plan.agents.map(async ({ cable }) => (cable === true ? await NetworkNamespace.make() : undefined)),
    );
    this.#cables.push(...cables.filter((cable) => cable !== undefined));
    const hosts = this.#cables.map(({ hostAddress }) => hostAddress);
    const tls = await writeCertificates(await this.#made('pki'), hosts);
    await this.#made('disk');
    if (plan.diskMb !== undefined) {
      await this.disk.mount(plan.diskMb);
      this.#mounted = true;
    }
    await this.postgres.start();
    if (plan.redis === true) await this.redis.start();
    const ports = await freePorts(plan.controlPlanes * 3);
    for (let number = 1; number <= plan.controlPlanes; number += 1) {
      const [httpPort = 0, grpcPort = 0, enrollPort = 0] = ports.slice(3 * (number - 1));
      this.#replicas.push({
        httpPort,
        grpcPort,
        enrollPort,
        process: new ClusterProcess({
          name: `control plane ${number}`,
          script: join(REPOSITORY, 'control-plane/dist/main.js'),
          logFile: join(this.folder, `control-plane-${number}.log`),
          environment: {
            ...COMMON_ENVIRONMENT,
            ...tls,
            LAMBDA_HTTP_PORT: `${httpPort}`,
            LAMBDA_GRPC_PORT: `${grpcPort}`,
            ...(hosts.length === 0 ? {} : { LAMBDA_GRPC_HOST: '0.0.0.0' }),
            LAMBDA_ENROLL_PORT: `${enrollPort}`,
            DATABASE_URL: this.postgres.url,
            LAMBDA_API_KEY_FILE: join(this.folder, 'api-key'),
            LAMBDA_DEV: 'true',
            LAMBDA_LEAVE_DELAY_MS: '1000',
            ...(plan.redis === true ? { REDIS_URL: this.redis.url } : {}),
            ...plan.controlPlaneEnv,
          },
        }),
      });
    }
    // The first one makes the schema; the others find it.
    for (const replica of this.#replicas) await replica.process.start();
    for (const [index, agent] of plan.agents.entries()) {
      const id = `node-${index + 1}`;
      const cable = cables[index];
      const host = cable?.hostAddress ?? 'localhost';
      this.#agents.push({
        id,
        cable,
        process: new ClusterProcess({
          name: id,
          ...(cable === undefined ? {} : { command: cable.command }),
          script: join(REPOSITORY, 'node-agent/dist/main.js'),
          logFile: join(this.folder, `${id}.log`),
          environment: {
            ...COMMON_ENVIRONMENT,
            LAMBDA_CONTROL_PLANE: this.#replicas.map(({ grpcPort }) => `${host}:${grpcPort}`).join(','),
            LAMBDA_ENROLL_ADDRESS: this.#replicas.map(({ enrollPort }) => `${host}:${enrollPort}`).join(','),
            LAMBDA_NODE_ID: id,
            LAMBDA_JOIN_TOKEN: await this.#joinToken(),
            LAMBDA_DATA_DIR: await this.#made(id),
            LAMBDA_DRIVER: agent.driver,
            LAMBDA_MEMORY_MB: '2048',
            LAMBDA_SLOTS: '16',
            LAMBDA_BLANKS: '2',
            ...(agent.labels === undefined ? {} : { LAMBDA_LABELS: agent.labels }),
            ...agent.env,
          },
        }),
      });
    }
    await Promise.all(this.#agents.map((agent) => agent.process.start()));
    this.#balancer = new Balancer(this.#replicas.map(({ httpPort }) => httpPort));
    await this.ready();
  }

  async #joinToken(): Promise<string> {
    const made = await this.api('POST', '/api/join-tokens', {});
    if (made.status !== 201) throw new Error(`no join token: ${made.text}`);
    return made.json<{ token: string }>().token;
  }

  async #made(name: string): Promise<string> {
    const folder = join(this.folder, name);
    await mkdir(folder, { recursive: true, mode: 0o711 });
    return folder;
  }
}
