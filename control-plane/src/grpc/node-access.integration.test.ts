import { createPrivateKey, webcrypto } from 'node:crypto';
import { credentials, status } from '@grpc/grpc-js';
import {
  createCertificateRequest,
  readCertificateRequest,
} from '@lambda-fleet/common/certificates/certificate-request';
import {
  type Authority,
  issueAuthority,
  issueCertificate,
  KEY_ALGORITHM,
  type KeyAndCertificate,
} from '@lambda-fleet/common/certificates/issue-certificate';
import { loadX509 } from '@lambda-fleet/common/certificates/load-x509';
import {
  type AgentFrame,
  type Certificate,
  type ControlFrame,
  FleetServiceClient,
  type Hello,
} from '@lambda-fleet/proto';
import { pino } from 'pino';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { NotificationListener } from '../db/notification-listener.js';
import { startTestPostgres, type TestPostgres } from '../db/test-postgres.js';
import { Enrollment } from '../enrollment/enrollment.js';
import { AttemptGrants } from '../nodes/attempt-grants.js';
import { NodeRegistry } from '../nodes/node-registry.js';
import { NodeStore } from '../nodes/node-store.js';
import { Revocations } from '../nodes/revocations.js';
import { startFleetServer } from './fleet-server.js';
import { createFleetService } from './fleet-service.js';

const log = pino({ level: 'silent' });
const LIFETIME_MS = 3_600_000;
const FOR_CLIENTS = { usage: 'client', dnsNames: [], addresses: [] } as const;

let postgres: TestPostgres;
let authority: Authority;
let serverCertificate: KeyAndCertificate;
let enrollment: Enrollment;
beforeAll(async () => {
  postgres = await startTestPostgres();
  authority = await issueAuthority();
  serverCertificate = await issueCertificate(authority, {
    ...{ commonName: 'control-plane', usage: 'server', dnsNames: ['localhost'], addresses: [] },
  });
  enrollment = new Enrollment({ database: postgres.database, authority, lifetimeMs: LIFETIME_MS, log });
});
afterAll(() => postgres.close());

const closers: (() => void | Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

interface Replica {
  readonly port: number;
  readonly registry: NodeRegistry;
  readonly revocations: Revocations;
}

/** One of several control planes on the same database. */
async function startReplica(options: { hearsNotices?: boolean; signs?: boolean } = {}): Promise<Replica> {
  const registry = new NodeRegistry({ onRoom: () => {}, onGone: () => {} });
  const notifications = new NotificationListener(postgres.database, log);
  const revocations = new Revocations({ database: postgres.database, notifications, log });
  if (options.hearsNotices !== false) notifications.start();
  await revocations.start();
  const store = new NodeStore(postgres.database);
  const service = createFleetService({
    replica: { id: 'replica', peers: () => [] },
    grants: new AttemptGrants(Buffer.alloc(32)),
    registry,
    events: {
      ...{
        onCapacity: () => {},
        onUnclaimedResult: () => {},
        onLogs: () => {},
        onDrainProgress: () => {},
        onLeaving: () => {},
        onSelfTest: () => {},
      },
      onClosed: (session) => registry.remove(session),
    },
    readArtifact: async function* () {},
    layers: { stored: () => Promise.resolve([]), put: () => Promise.resolve() },
    revoked: revocations,
    renew: options.signs === false ? undefined : (node, request) => enrollment.renew(node, request),
    refuseHello: () => undefined,
    onWelcomed: (session) => void store.recordHello(session.nodeId, session.hello),
    log,
  });
  const tls = {
    ca: Buffer.from(authority.certificatePem),
    cert: Buffer.from(serverCertificate.certificatePem),
    key: Buffer.from(serverCertificate.keyPem),
  };
  const server = await startFleetServer(service, { host: '127.0.0.1', port: 0, tls });
  closers.push(async () => {
    revocations.close();
    registry.close();
    await server.close();
    await notifications.close();
  });
  return { port: server.port, registry, revocations };
}

function dial({ port }: Replica, { keyPem, certificatePem }: KeyAndCertificate): FleetServiceClient {
  const tls = credentials.createSsl(
    Buffer.from(authority.certificatePem),
    Buffer.from(keyPem),
    Buffer.from(certificatePem),
  );
  const client = new FleetServiceClient(`localhost:${port}`, tls, { 'grpc.use_local_subchannel_pool': 1 });
  closers.push(() => client.close());
  return client;
}

const HELLO: Hello = {
  ...{ protocolMin: 1, protocolMax: 1, agentVersion: '0', bootId: 'b', labels: {}, runtimes: [], isolation: [] },
  ...{ architecture: 'x64', networks: [], builds: false, running: [], keptResults: [], selfTest: [] },
  capacity: undefined,
};

/** Says Hello. Rejects when the stream ends before its Welcome; `ended` resolves with how it ended after that. */
function greet(replica: Replica, certificate: KeyAndCertificate): Promise<{ ended: Promise<{ code?: number }> }> {
  const stream = dial(replica, certificate).connect();
  const ended = new Promise<{ code?: number }>((resolve) => {
    stream.on('error', resolve);
    stream.on('end', () => resolve({}));
  });
  const frame: AgentFrame = { messages: [{ message: { $case: 'hello', value: HELLO } }] };
  stream.write(frame);
  return new Promise((resolve, reject) => {
    stream.on('data', (answer: ControlFrame) => {
      if (answer.messages.some(({ message }) => message?.$case === 'welcome')) resolve({ ended });
    });
    void ended.then(reject);
  });
}

async function join(nodeId: string, forThisId = false): Promise<KeyAndCertificate> {
  const { keyPem, request } = await createCertificateRequest(nodeId);
  const { token } = await enrollment.tokens.create({
    ...{ projectId: 'default', nodeId: forThisId ? nodeId : undefined, expiresInMinutes: 15 },
  });
  return { keyPem, certificatePem: (await enrollment.enroll('test', token, request)).certificate };
}

function renew(replica: Replica, certificate: KeyAndCertificate, certificateRequest: Buffer): Promise<Certificate> {
  return new Promise((resolve, reject) => {
    dial(replica, certificate).renew({ certificateRequest }, (err, answer) =>
      err === null ? resolve(answer) : reject(err),
    );
  });
}

describe('who may open the link', () => {
  it('is the node that its certificate names', async () => {
    const replica = await startReplica();
    await greet(replica, await join('node-1'));
    expect(replica.registry.session('node-1')).toBeDefined();
  });

  it('is nobody with a certificate of another authority, of its own making, or for a server', async () => {
    const replica = await startReplica();
    const another = await issueAuthority();
    const foreign = await issueCertificate(another, { ...FOR_CLIENTS, commonName: 'node-1' });
    for (const certificate of [foreign, another, serverCertificate]) {
      await expect(greet(replica, certificate)).rejects.toMatchObject({ code: expect.any(Number) });
    }
    expect(replica.registry.size).toBe(0);
  });

  it('is nobody whose certificate has no id for its name', async () => {
    const replica = await startReplica();
    const strange = await issueCertificate(authority, { ...FOR_CLIENTS, commonName: 'Some Body' });
    await expect(greet(replica, strange)).rejects.toMatchObject({ code: status.UNAUTHENTICATED });
  });

  it('is nobody whose certificate is not said to be one of a client', async () => {
    const replica = await startReplica();
    await expect(greet(replica, await certificateOfNoUsage())).rejects.toMatchObject({ code: status.UNAUTHENTICATED });
  });
});

/** Signed by the authority, and for no usage in particular: something that this program never issues. */
async function certificateOfNoUsage(): Promise<KeyAndCertificate> {
  const x509 = await loadX509();
  const { keyPem, request } = await createCertificateRequest('node-1');
  const der = createPrivateKey(authority.keyPem).export({ format: 'der', type: 'pkcs8' });
  const certificate = await x509.X509CertificateGenerator.create({
    ...{ serialNumber: '02', subject: 'CN=node-1', signingAlgorithm: KEY_ALGORITHM },
    issuer: new x509.X509Certificate(authority.certificatePem).subjectName,
    publicKey: (await readCertificateRequest(request)).publicKey,
    signingKey: await webcrypto.subtle.importKey('pkcs8', der, KEY_ALGORITHM, false, ['sign']),
  });
  return { keyPem, certificatePem: certificate.toString('pem') };
}

describe('a renewed certificate', () => {
  it('is one of the same node with a new key, which opens the link', async () => {
    const replica = await startReplica();
    const first = await join('node-renewing');
    const { keyPem, request } = await createCertificateRequest('node-renewing');
    const { certificate } = await renew(replica, first, request);
    await greet(replica, { keyPem, certificatePem: certificate });
    expect(replica.registry.session('node-renewing')).toBeDefined();
  });

  it('is never one of another node', async () => {
    const replica = await startReplica();
    const own = await join('node-honest');
    await join('node-victim');
    const { request } = await createCertificateRequest('node-victim');
    await expect(renew(replica, own, request)).rejects.toMatchObject({ code: status.PERMISSION_DENIED });
  });

  it('is not to be had from a control plane without the key of the authority', async () => {
    const replica = await startReplica({ signs: false });
    const own = await join('node-elsewhere');
    const { request } = await createCertificateRequest('node-elsewhere');
    await expect(renew(replica, own, request)).rejects.toMatchObject({ code: status.UNIMPLEMENTED });
  });

  it('is not to be had over a connection that has outlived its certificate', async () => {
    await join('node-lasting');
    const { request } = await createCertificateRequest('node-lasting');
    const peer = { nodeId: 'node-lasting', issuedAt: Date.now() - LIFETIME_MS, expiresAt: Date.now() - 1 };
    await expect(enrollment.renew(peer, request)).rejects.toThrow('has expired');
  });

  it('is not to be had without a row of the node, nor by a server', async () => {
    const replica = await startReplica();
    const unknown = await issueCertificate(authority, { ...FOR_CLIENTS, commonName: 'node-unknown' });
    const { request } = await createCertificateRequest('node-unknown');
    await expect(renew(replica, unknown, request)).rejects.toMatchObject({ code: status.PERMISSION_DENIED });
    await expect(renew(replica, serverCertificate, request)).rejects.toMatchObject({ code: expect.any(Number) });
  });
});

describe('a node that was removed', () => {
  it('is cut off by every replica, also by one that hears no notices, and is refused whatever it calls', async () => {
    const replicas = [await startReplica(), await startReplica(), await startReplica({ hearsNotices: false })];
    const [first] = replicas as [Replica];
    const certificate = await join('node-removed');
    const others = await join('node-staying');
    const sessions = await Promise.all(replicas.map((replica) => greet(replica, certificate)));
    const staying = await Promise.all(replicas.map((replica) => greet(replica, others)));
    await first.revocations.revoke('default', 'node-removed');
    for (const { ended } of sessions) expect(await ended).toMatchObject({ code: status.UNAUTHENTICATED });
    const { request } = await createCertificateRequest('node-removed');
    for (const replica of replicas) {
      expect([...replica.registry.sessions()].map(({ nodeId }) => nodeId)).toEqual(['node-staying']);
      await expect(greet(replica, certificate)).rejects.toMatchObject({ code: status.UNAUTHENTICATED });
      await expect(renew(replica, certificate, request)).rejects.toMatchObject({ code: status.UNAUTHENTICATED });
      const fetched = dial(replica, certificate).fetchArtifact({ sha256: 'a'.repeat(64) });
      await expect(fetched.toArray()).rejects.toMatchObject({ code: status.UNAUTHENTICATED });
      const asked = new Promise((_, reject) => {
        dial(replica, certificate).hasLayers({ buildId: 'b', sha256: [] }, reject);
      });
      await expect(asked).rejects.toMatchObject({ code: status.UNAUTHENTICATED });
    }
    expect(await Promise.race([staying[0]?.ended, 'open'])).toBe('open');
    const listed = (await new NodeStore(postgres.database).list()).map(({ id }) => id);
    expect(listed).toContain('node-staying');
    expect(listed).not.toContain('node-removed');
  });

  it('is cut off before its Hello too', async () => {
    const replica = await startReplica();
    const certificate = await join('node-silent');
    const stream = dial(replica, certificate).connect();
    // Sent after the removal: the stream was let in before.
    stream.on('data', () => {});
    const ended = new Promise((resolve) => stream.on('error', resolve));
    await new Promise<void>((resolve) => stream.write({ messages: [] }, () => resolve()));
    await replica.revocations.revoke('default', 'node-silent');
    stream.write({ messages: [{ message: { $case: 'hello', value: HELLO } }] });
    expect(await ended).toMatchObject({ code: status.UNAUTHENTICATED });
    expect(replica.registry.size).toBe(0);
  });

  it('stays out while the database is away', async () => {
    const replica = await startReplica();
    const certificate = await join('node-outage');
    await replica.revocations.revoke('default', 'node-outage');
    await postgres.restart(async () => {
      await expect(greet(replica, certificate)).rejects.toMatchObject({ code: status.UNAUTHENTICATED });
    });
  });

  it('stays out of a replica that starts afterwards', async () => {
    const certificate = await join('node-before');
    await (await startReplica()).revocations.revoke('default', 'node-before');
    await expect(greet(await startReplica(), certificate)).rejects.toMatchObject({ code: status.UNAUTHENTICATED });
  });

  it('comes in again with a new token, at once and however often, and its older certificates never do', async () => {
    const replica = await startReplica();
    const olds = [await join('node-again')];
    for (const forThisId of [false, true, false]) {
      await replica.revocations.revoke('default', 'node-again');
      const renewed = await join('node-again', forThisId);
      await greet(replica, renewed);
      const { request, keyPem } = await createCertificateRequest('node-again');
      const { certificate } = await renew(replica, renewed, request);
      await greet(replica, { keyPem, certificatePem: certificate });
      for (const old of olds) await expect(greet(replica, old)).rejects.toMatchObject({ code: status.UNAUTHENTICATED });
      olds.push(renewed, { keyPem, certificatePem: certificate });
    }
    expect((await new NodeStore(postgres.database).list()).map(({ id }) => id)).toContain('node-again');
    const [row] = await postgres.database.run(
      'events',
      (sql) => sql<{ kinds: string }[]>`
        SELECT string_agg(kind, ',' ORDER BY id) AS kinds FROM node_events
        WHERE node_id = 'node-again' AND kind IN ('joined', 'revoked')`,
    );
    expect(row?.kinds).toBe('joined,revoked,joined,revoked,joined,revoked,joined');
  });

  it('must be there', async () => {
    const { revocations } = await startReplica();
    for (const id of ['nobody', 'No\0body', '']) {
      await expect(revocations.revoke('default', id)).rejects.toMatchObject({ code: 'node_not_found' });
    }
    await join('node-of-default');
    await expect(revocations.revoke('elsewhere', 'node-of-default')).rejects.toMatchObject({ code: 'node_not_found' });
  });
});
