import { type ChildProcess, spawn } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { createServer } from 'node:tls';
import { status } from '@grpc/grpc-js';
import {
  createCertificateRequest,
  readCertificateRequest,
} from '@lambda-fleet/common/certificates/certificate-request';
import {
  type Authority,
  issueAuthority,
  issueCertificate,
  signCertificate,
} from '@lambda-fleet/common/certificates/issue-certificate';
import { authorityPin, generateJoinToken } from '@lambda-fleet/common/join-token';
import { Lifecycle } from '@lambda-fleet/common/lifecycle';
import { Secret } from '@lambda-fleet/common/secret';
import { FleetServiceClient } from '@lambda-fleet/proto';
import { type Logger, pino } from 'pino';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { readConfig } from '../../control-plane/src/config.js';
import { startTestPostgres, type TestPostgres } from '../../control-plane/src/db/test-postgres.js';
import { type RunningControlPlane, wireControlPlane } from '../../control-plane/src/wiring.js';
import { VERIFY_SERVER } from '../../node-agent/src/identity/identity.js';
import { IdentityFiles } from '../../node-agent/src/identity/identity-files.js';
import { type OpenedIdentity, openIdentity } from '../../node-agent/src/identity/open-identity.js';
import { type Clocks, Renewal } from '../../node-agent/src/identity/renewal.js';
import { REPOSITORY } from './fleet/fleet.js';
import { type HttpAnswer, httpCall } from './fleet/http-call.js';

const silent = pino({ level: 'silent' });
const AGENT = join(REPOSITORY, 'node-agent/dist/main.js');

let folder: string;
let postgres: TestPostgres;
let authority: Authority;
const lives: Lifecycle[] = [];
/** Two control planes on one database. */
let first: RunningControlPlane;
let second: RunningControlPlane;
/** What the control planes have logged. */
const logged: { msg: string; reason?: string; node?: string }[] = [];

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lf-joining-'));
  [postgres, authority] = await Promise.all([startTestPostgres(), issueAuthority()]);
  first = await startControlPlane(authority);
  second = await startControlPlane(authority);
});
afterAll(async () => {
  for (const life of lives.splice(0).reverse()) await life.close();
  await postgres.close();
  await rm(folder, { recursive: true, force: true });
});

async function startControlPlane(ofAuthority: Authority, signs = true): Promise<RunningControlPlane> {
  const log = pino(
    { level: 'info' },
    new Writable({
      write: (line: Buffer, _encoding, done) => {
        logged.push(JSON.parse(line.toString()));
        done();
      },
    }),
  );
  const server = await issueCertificate(authority, {
    ...{ commonName: 'control-plane', usage: 'server', dnsNames: ['localhost'], addresses: ['127.0.0.1'] },
  });
  const pem = {
    CA: ofAuthority.certificatePem,
    CA_KEY: ofAuthority.keyPem,
    CERT: server.certificatePem,
    KEY: server.keyPem,
  };
  const files: Record<string, string> = {};
  for (const [name, text] of Object.entries(pem)) {
    files[`LAMBDA_TLS_${name}`] = join(folder, `${lives.length}-${name}`);
    await writeFile(join(folder, `${lives.length}-${name}`), text);
  }
  if (!signs) delete files.LAMBDA_TLS_CA_KEY;
  const config = readConfig({
    ...{ ...files, DATABASE_URL: 'postgres://replaced', LAMBDA_DEV: 'true', LAMBDA_QUEUE_BUDGET_MS: '200' },
    ...{ LAMBDA_HTTP_PORT: '0', LAMBDA_GRPC_PORT: '0', LAMBDA_ENROLL_PORT: '0' },
    LAMBDA_API_KEY_FILE: join(folder, 'api-key'),
  });
  const life = new Lifecycle(silent);
  lives.push(life);
  return await wireControlPlane({ ...config, databaseUrl: new Secret(postgres.url) }, log, life);
}

async function api(of: RunningControlPlane, method: string, path: string, body?: unknown): Promise<HttpAnswer> {
  const key = (await readFile(join(folder, 'api-key'), 'utf8')).trim();
  return await httpCall({
    ...{ port: of.httpPort, method, path },
    headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
}

async function joinToken(nodeId?: string): Promise<string> {
  const answer = await api(first, 'POST', '/api/join-tokens', nodeId === undefined ? {} : { nodeId });
  expect(answer.status).toBe(201);
  return answer.json<{ token: string }>().token;
}

async function nodes(of: RunningControlPlane): Promise<{ id: string; connected: boolean }[]> {
  return (await api(of, 'GET', '/api/nodes')).json<{ nodes: { id: string; connected: boolean }[] }>().nodes;
}

const connected = async (of: RunningControlPlane) =>
  (await nodes(of)).filter((node) => node.connected).map(({ id }) => id);

describe('a machine with a join token', () => {
  const agents: Agent[] = [];
  afterEach(async () => {
    for (const agent of agents.splice(0)) await agent.stop();
  });

  class Agent {
    output = '';
    private constructor(private readonly child: ChildProcess) {}

    /** As an operator starts it: nothing but its environment. */
    static start(nodeId: string, of: RunningControlPlane, token: string): Agent {
      const child = spawn(process.execPath, [AGENT], {
        env: {
          ...{ PATH: process.env.PATH, LAMBDA_DRIVER: 'process', LAMBDA_DATA_DIR: join(folder, nodeId) },
          ...{
            LAMBDA_CONTROL_PLANE: `localhost:${of.grpcPort}`,
            LAMBDA_ENROLL_ADDRESS: `localhost:${first.enrollPort}`,
          },
          ...{ LAMBDA_NODE_ID: nodeId, LAMBDA_JOIN_TOKEN: token, LAMBDA_BLANKS: '0' },
        },
        stdio: ['ignore', 'pipe', 'pipe'],
      });
      const agent = new Agent(child);
      const collect = (chunk: Buffer): void => {
        agent.output += chunk.toString();
      };
      child.stdout?.on('data', collect);
      child.stderr?.on('data', collect);
      agents.push(agent);
      return agent;
    }

    async stop(): Promise<number | null> {
      if (this.child.exitCode === null && this.child.signalCode === null) {
        const exited = new Promise((resolve) => this.child.once('exit', resolve));
        this.child.kill('SIGTERM');
        await exited;
      }
      return this.child.exitCode;
    }
  }

  const call = async (of: RunningControlPlane) => {
    const answer = await api(of, 'POST', '/api/functions/echo/invocations', { from: 'joined' });
    return answer.status === 200 ? answer.text : answer.status;
  };

  it('becomes a node that serves, is cut off by every control plane when it is removed, and comes back with a new token', async () => {
    const one = Agent.start('node-one', first, await joinToken());
    const two = Agent.start('node-two', second, await joinToken());
    await expect.poll(() => connected(first), { timeout: 40_000 }).toEqual(['node-one']);
    await expect.poll(() => connected(second), { timeout: 40_000 }).toEqual(['node-two']);
    const deployed = await api(first, 'PUT', '/api/functions/echo', {
      ...{ memoryMb: 128, code: { source: 'export const handler = async (event) => event;' } },
    });
    expect([200, 201], deployed.text).toContain(deployed.status);
    expect(await call(first)).toBe('{"from":"joined"}');
    expect(await call(second)).toBe('{"from":"joined"}');

    for (const id of ['node-one', 'node-two']) {
      expect((await api(first, 'DELETE', `/api/nodes/${id}`)).status).toBe(204);
    }
    // The second one hears of it from the database.
    for (const of of [first, second]) await expect.poll(() => nodes(of), { timeout: 5_000 }).toEqual([]);
    expect(await call(first)).toBe(503);
    expect(await call(second)).toBe(503);
    await expect.poll(() => one.output).toContain('removed from the fleet');

    // The old token and the old certificate are worth nothing, however often it is started.
    await two.stop();
    const token = await joinToken();
    const back = Agent.start('node-two', second, token);
    await expect.poll(() => connected(second), { timeout: 40_000 }).toEqual(['node-two']);
    expect(await call(second)).toBe('{"from":"joined"}');
    await back.stop();
    Agent.start('node-two', second, token);
    await expect.poll(() => connected(second), { timeout: 40_000 }).toEqual(['node-two']);
    expect(logged.filter(({ msg, node }) => msg === 'node_joined' && node === 'node-two')).toHaveLength(2);
  });

  it('that was used before ends, and says what to do', async () => {
    const token = await joinToken();
    await openIdentity({ ...options('node-used', token), log: silent });
    const agent = Agent.start('node-late', first, token);
    await expect.poll(() => agent.output, { timeout: 40_000 }).toContain('lambda node join-token');
    expect(await agent.stop()).toBe(1);
    expect((await nodes(first)).map(({ id }) => id)).not.toContain('node-late');
  });
});

describe('the API of joining', () => {
  it.each([
    ['an id that no node can have', { nodeId: 'Node 1' }, 'nodeId'],
    ['a time that is too long', { expiresInMinutes: 16 }, 'expiresInMinutes'],
    ['no whole minutes', { expiresInMinutes: 0.5 }, 'expiresInMinutes'],
    ['what it does not know', { node: 'node-1' }, 'node'],
  ])('refuses %s', async (_what, body, field) => {
    const answer = await api(first, 'POST', '/api/join-tokens', body);
    expect(answer.status).toBe(400);
    expect(answer.json()).toMatchObject({ error: { code: 'invalid_request', details: { field } } });
  });

  it('says that there is no such node, and that this control plane signs nothing', async () => {
    const removed = await api(first, 'DELETE', '/api/nodes/nobody');
    expect(removed.json()).toMatchObject({ error: { code: 'node_not_found' } });
    const unable = await startControlPlane(authority, false);
    expect(unable.enrollPort).toBeUndefined();
    const refused = await api(unable, 'POST', '/api/join-tokens', {});
    expect(refused.status).toBe(409);
    expect(refused.json()).toMatchObject({ error: { code: 'enrollment_disabled' } });
  });

  it('is not offered with the key of another authority', async () => {
    const another = await issueAuthority();
    const mixed = startControlPlane({ certificatePem: authority.certificatePem, keyPem: another.keyPem });
    await expect(mixed).rejects.toThrow('LAMBDA_TLS_CA_KEY cannot be used');
  });
});

const options = (nodeId: string, token?: string) => ({
  tls: undefined,
  dataDir: join(folder, nodeId),
  join: {
    ...{
      token: token === undefined ? undefined : new Secret(token),
      nodeId,
      addresses: [`127.0.0.1:${first.enrollPort}`],
    },
  },
});

const dialledAs = (address: string) => ({ address, serverName: undefined });

async function joined(nodeId: string, log: Logger = silent): Promise<OpenedIdentity> {
  return await openIdentity({ ...options(nodeId, await joinToken()), log });
}

describe("an agent's identity", () => {
  it('is sent to no server of another authority than the one that the token names', async () => {
    const { raw } = new X509Certificate((await issueAuthority()).certificatePem);
    const { token } = generateJoinToken(authorityPin(raw));
    const before = logged.length;
    await expect(openIdentity({ ...options('node-astray', token), log: silent })).rejects.toThrow(
      'not of the authority that the token names',
    );
    expect(logged.slice(before).filter(({ msg }) => msg.startsWith('enrollment'))).toEqual([]);
    expect(await new IdentityFiles(join(folder, 'node-astray', 'identity')).load()).toBeUndefined();
  });

  it('is kept in files, used again at the next start, and not got again with the same token', async () => {
    const token = await joinToken();
    const once = await openIdentity({ ...options('node-kept', token), log: silent });
    const again = await openIdentity({ ...options('node-kept', token), log: silent });
    expect(again.identity.files).toEqual(once.identity.files);
    const without = await openIdentity({ ...options('node-kept'), log: silent });
    expect(without.identity.files).toEqual(once.identity.files);
  });

  it('that has expired is said so, with what to do, and is got again with a new token', async () => {
    const id = 'node-expired';
    const { keyPem, request } = await createCertificateRequest(id);
    const { publicKey } = await readCertificateRequest(request);
    const certificate = await signCertificate(authority, {
      ...{ commonName: id, publicKey, usage: 'client', dnsNames: [], addresses: [] },
      ...{ notBefore: new Date(Date.now() - 3_600_000), notAfter: new Date(Date.now() - 1_000) },
    });
    await new IdentityFiles(join(folder, id, 'identity')).saveJoined({
      ...{ ca: Buffer.from(authority.certificatePem), cert: Buffer.from(certificate), key: Buffer.from(keyPem) },
      tokenId: 'earlier',
    });
    await expect(openIdentity({ ...options(id), log: silent })).rejects.toThrow(
      /expired at .+lambda node join-token --node node-expired/,
    );
    const { identity } = await openIdentity({ ...options(id, await joinToken(id)), log: silent });
    expect(identity.certificate.expiresAt).toBeGreaterThan(Date.now());
  });

  it('outlives a new token that is refused', async () => {
    const { identity } = await joined('node-stubborn');
    const used = await joinToken();
    await openIdentity({ ...options('node-other', used), log: silent });
    const still = await openIdentity({ ...options('node-stubborn', used), log: silent });
    expect(still.identity.files).toEqual(identity.files);
    const unreachable = { ...options('node-stubborn', await joinToken('node-stubborn')), log: silent };
    const alone = await openIdentity({ ...unreachable, join: { ...unreachable.join, addresses: ['localhost:1'] } });
    expect(alone.identity.files).toEqual(identity.files);
  });

  it('is not got with half a token, nor as another node by a changed variable', async () => {
    const half = openIdentity({ ...options('node-half', (await joinToken()).slice(0, -1)), log: silent });
    await expect(half).rejects.toThrow('no whole join token');
    await joined('node-named');
    const renamed = { ...options('node-named'), log: silent };
    const as = { ...renamed.join, nodeId: 'node-renamed' };
    await expect(openIdentity({ ...renamed, join: as })).rejects.toThrow('LAMBDA_NODE_ID says node-renamed');
  });

  it('is shown to no server that has the certificate of a node, and none of a server', async () => {
    const { identity } = await joined('node-impostor');
    // It even has the name that is dialled.
    const forClients = await issueCertificate(authority, {
      ...{ commonName: 'node-evil', usage: 'client', dnsNames: ['localhost'], addresses: [] },
    });
    let reached = 0;
    const server = createServer(
      { key: forClients.keyPem, cert: forClients.certificatePem, ca: authority.certificatePem, requestCert: true },
      () => {
        reached += 1;
      },
    );
    await new Promise<void>((ready) => server.listen(0, '127.0.0.1', ready));
    const { port } = server.address() as AddressInfo;
    const client = new FleetServiceClient(`localhost:${port}`, identity.credentials);
    try {
      const asked = new Promise((_, reject) => client.renew({ certificateRequest: Buffer.alloc(0) }, reject));
      await expect(asked).rejects.toMatchObject({ code: status.UNAVAILABLE });
      expect(reached).toBe(0);
      const { raw } = new X509Certificate(forClients.certificatePem);
      expect(VERIFY_SERVER.checkServerIdentity?.('localhost', { raw } as never)).toBeInstanceOf(Error);
    } finally {
      client.close();
      await new Promise((closed) => server.close(closed));
    }
  });

  it('is renewed when two thirds of its time are over, by either clock, and not before', async () => {
    const opened = await joined('node-renewed');
    const { identity, files } = opened;
    const { issuedAt, expiresAt } = identity.certificate;
    const lifetime = expiresAt - issuedAt;
    const at = { wall: issuedAt, passed: 0 };
    const clocks: Clocks = { wall: () => at.wall, passed: () => at.passed };
    const replicas = () => ['localhost:1', `127.0.0.1:${first.grpcPort}`].map(dialledAs);
    if (files === undefined) throw new Error('no files');
    const renewal = new Renewal({ identity, files, replicas, clocks, log: silent });
    const serial = () => identity.files.cert.toString();
    const start = serial();
    at.wall = issuedAt + lifetime * 0.66;
    at.passed = lifetime * 0.66;
    await renewal.check();
    expect(serial()).toBe(start);
    // Set back, while time has passed.
    at.wall = issuedAt - lifetime;
    at.passed = lifetime * 0.7;
    await renewal.check();
    const renewed = serial();
    expect(renewed).not.toBe(start);
    expect((await files.load())?.cert.toString()).toBe(renewed);
    // Suspended: the wall alone has moved.
    at.wall = issuedAt + lifetime * 2;
    await renewal.check();
    expect(serial()).not.toBe(renewed);
    await renewal.close();
  });

  it('survives that nobody renews it, and is tried again later', async () => {
    const { identity, files } = await joined('node-alone');
    const { issuedAt, expiresAt } = identity.certificate;
    const at = { passed: expiresAt - issuedAt };
    const clocks: Clocks = { wall: () => issuedAt, passed: () => at.passed };
    let address = 'localhost:1';
    if (files === undefined) throw new Error('no files');
    const renewal = new Renewal({ identity, files, clocks, replicas: () => [dialledAs(address)], log: silent });
    at.passed *= 2;
    const before = identity.files.cert.toString();
    await renewal.check();
    address = `localhost:${first.grpcPort}`;
    await renewal.check();
    expect(identity.files.cert.toString()).toBe(before);
    at.passed += 300_000;
    await renewal.check();
    expect(identity.files.cert.toString()).not.toBe(before);
    await renewal.close();
  });
});
