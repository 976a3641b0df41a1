import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Authority, issueAuthority, issueCertificate } from '@lambda-fleet/common/certificates/issue-certificate';
import { Lifecycle } from '@lambda-fleet/common/lifecycle';
import { Secret } from '@lambda-fleet/common/secret';
import { pino } from 'pino';
import { type ControlPlaneConfig, readConfig } from '../../control-plane/src/config.js';
import { startTestPostgres, type TestPostgres } from '../../control-plane/src/db/test-postgres.js';
import { wireControlPlane } from '../../control-plane/src/wiring.js';
import { REPOSITORY } from '../src/fleet/fleet.js';
import { freePorts } from '../src/fleet/free-ports.js';
import { type HttpAnswer, type HttpCall, httpCall } from '../src/fleet/http-call.js';

export interface Credentials {
  readonly ca: Buffer;
  readonly cert: Buffer;
  readonly key: Buffer;
}

/** One control plane among several. */
export interface Replica {
  readonly httpPort: number;
  readonly grpcPort: number;
  /** By SIGKILL, where it is a process of its own. */
  stop(): Promise<void>;
}

/** Several control planes on one real PostgreSQL, and certificates for agents. */
export class Replicas {
  readonly all: Replica[] = [];

  private constructor(
    readonly postgres: TestPostgres,
    private readonly authority: Authority,
    private readonly folder: string,
  ) {}

  static async open(): Promise<Replicas> {
    const [postgres, authority, folder] = await Promise.all([
      startTestPostgres(),
      issueAuthority(),
      mkdtemp(join(tmpdir(), 'lf-replicas-')),
    ]);
    return new Replicas(postgres, authority, folder);
  }

  /** In a process of its own, which can be killed. `instead` of another one, on its ports. */
  async startProcess({
    announced = false,
    instead,
  }: {
    announced?: boolean;
    instead?: Replica;
  } = {}): Promise<Replica> {
    const [httpPort = 0, grpcPort = 0] = instead ? [instead.httpPort, instead.grpcPort] : await freePorts(2);
    const env = {
      ...(await this.#environment()),
      ...{ LAMBDA_HTTP_PORT: `${httpPort}`, LAMBDA_GRPC_PORT: `${grpcPort}` },
      ...(announced ? { LAMBDA_ADVERTISE_GRPC: `localhost:${grpcPort}` } : {}),
    };
    const child = spawn(process.execPath, [join(REPOSITORY, 'control-plane/dist/main.js')], {
      env: { ...process.env, ...env },
      stdio: 'ignore',
    });
    await answers(httpPort, child);
    const replica = { httpPort, grpcPort, stop: () => killed(child) };
    this.all.push(replica);
    return replica;
  }

  /** In this process, so that its timings can be others. */
  async startHere(more: Partial<ControlPlaneConfig> = {}): Promise<Replica> {
    const log = pino({ level: 'silent' });
    const life = new Lifecycle(log);
    const config = readConfig({
      ...(await this.#environment()),
      ...{ DATABASE_URL: 'postgres://replaced', LAMBDA_HTTP_PORT: '0', LAMBDA_GRPC_PORT: '0' },
    });
    const databaseUrl = new Secret(this.postgres.url);
    const ports = await wireControlPlane({ ...config, databaseUrl, ...more }, log, life);
    const replica = { ...ports, stop: () => life.close() };
    this.all.push(replica);
    return replica;
  }

  async agentCredentials(id: string): Promise<Credentials> {
    const names = { commonName: id, usage: 'client', dnsNames: [], addresses: [] } as const;
    const { certificatePem, keyPem } = await issueCertificate(this.authority, names);
    return {
      ca: Buffer.from(this.authority.certificatePem),
      cert: Buffer.from(certificatePem),
      key: Buffer.from(keyPem),
    };
  }

  async apiKey(): Promise<string> {
    return (await readFile(join(this.folder, 'api-key'), 'utf8')).trim();
  }

  async api({ httpPort }: Replica, method: string, path: string, body?: unknown): Promise<HttpAnswer> {
    const headers: Record<string, string> = { authorization: `Bearer ${await this.apiKey()}` };
    if (body !== undefined) headers['content-type'] = 'application/json';
    const call: HttpCall = { port: httpPort, method, path, headers };
    return await httpCall(body === undefined ? call : { ...call, body: JSON.stringify(body) });
  }

  async deploy(replica: Replica, name: string): Promise<void> {
    const code = { source: 'export const handler = async (event) => event;' };
    const answer = await this.api(replica, 'PUT', `/api/functions/${name}`, { code });
    if (answer.status !== 201) throw new Error(answer.text);
  }

  /** What is recorded, oldest first. */
  async executions(): Promise<readonly { id: string; outcome: string; epoch: number; nodeId: string | null }[]> {
    return await this.postgres.database.run(
      'executions',
      (sql) => sql<{ id: string; outcome: string; epoch: number; nodeId: string | null }[]>`
        select id, outcome, epoch, node_id from executions order by id`,
    );
  }

  async close(): Promise<void> {
    await Promise.all(this.all.map((replica) => replica.stop()));
    await this.postgres.close();
    await rm(this.folder, { recursive: true, force: true });
  }

  async #environment(): Promise<Record<string, string>> {
    const names = { commonName: 'control-plane', usage: 'server' } as const;
    const { certificatePem, keyPem } = await issueCertificate(this.authority, {
      ...names,
      ...{ dnsNames: ['localhost'], addresses: ['127.0.0.1'] },
    });
    const files = { CA: this.authority.certificatePem, CERT: certificatePem, KEY: keyPem };
    for (const [name, text] of Object.entries(files)) await writeFile(join(this.folder, name), text);
    return {
      ...Object.fromEntries(Object.keys(files).map((name) => [`LAMBDA_TLS_${name}`, join(this.folder, name)])),
      ...{ DATABASE_URL: this.postgres.url, LAMBDA_DEV: 'true', LAMBDA_API_KEY_FILE: join(this.folder, 'api-key') },
      LAMBDA_LOG_LEVEL: 'warn',
    };
  }
}

async function answers(port: number, child: ChildProcess): Promise<void> {
  const giveUpAt = Date.now() + 60_000;
  while (Date.now() < giveUpAt && child.exitCode === null) {
    const answer = await httpCall({ port, path: '/healthz', timeoutMs: 2_000 }).catch(() => undefined);
    if (answer !== undefined && answer.status < 500) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error('the control plane did not start');
}

async function killed(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGKILL');
  await exited;
}
