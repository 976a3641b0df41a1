import { createHash, randomBytes, X509Certificate } from 'node:crypto';
import { Writable } from 'node:stream';
import { credentials, status } from '@grpc/grpc-js';
import { createCertificateRequest } from '@lambda-fleet/common/certificates/certificate-request';
import {
  type Authority,
  BACKDATED_MS,
  issueAuthority,
  issueCertificate,
} from '@lambda-fleet/common/certificates/issue-certificate';
import { CLIENT_AUTH } from '@lambda-fleet/common/certificates/node-certificate';
import { generateJoinToken } from '@lambda-fleet/common/join-token';
import { type Certificate, EnrollmentServiceClient } from '@lambda-fleet/proto';
import { type Logger, pino } from 'pino';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { startTestPostgres, type TestPostgres } from '../db/test-postgres.js';
import { startEnrollmentServer } from '../grpc/enrollment-server.js';
import { Enrollment } from './enrollment.js';

const LIFETIME_MS = 3_600_000;

let postgres: TestPostgres;
let authority: Authority;
let tls: { ca: Buffer; cert: Buffer; key: Buffer };
beforeAll(async () => {
  postgres = await startTestPostgres();
  authority = await issueAuthority();
  const server = { commonName: 'control-plane', usage: 'server', dnsNames: ['localhost'], addresses: [] } as const;
  const { certificatePem, keyPem } = await issueCertificate(authority, server);
  tls = { ca: Buffer.from(authority.certificatePem), cert: Buffer.from(certificatePem), key: Buffer.from(keyPem) };
});
afterAll(() => postgres.close());

/** Lines of the log, by what they say. */
let logged: { msg: string; reason?: string }[];
let log: Logger;
let enrollment: Enrollment;
let client: EnrollmentServiceClient;
let close: () => Promise<void>;
beforeEach(async () => {
  logged = [];
  const lines = new Writable({
    write: (line: Buffer, _encoding, done) => {
      logged.push(JSON.parse(line.toString()));
      done();
    },
  });
  log = pino({ level: 'info' }, lines);
  enrollment = new Enrollment({ database: postgres.database, authority, lifetimeMs: LIFETIME_MS, log });
  const server = await startEnrollmentServer(enrollment, { host: '127.0.0.1', port: 0, tls, log });
  client = new EnrollmentServiceClient(`localhost:${server.port}`, credentials.createSsl(tls.ca));
  close = async () => {
    client.close();
    await server.close();
  };
});
afterEach(() => close());

function enroll(token: string, certificateRequest: Buffer): Promise<Certificate> {
  return new Promise((resolve, reject) => {
    client.enroll({ token, certificateRequest }, (err, answer) => (err === null ? resolve(answer) : reject(err)));
  });
}

const requestOf = async (nodeId: string) => (await createCertificateRequest(nodeId)).request;

const tokenFor = async (nodeId?: string) =>
  (await enrollment.tokens.create({ projectId: 'default', nodeId, expiresInMinutes: 15 })).token;

const refusals = () => logged.filter(({ msg }) => msg === 'enrollment_refused').map(({ reason }) => reason);

async function stored() {
  const [row] = await postgres.database.run(
    'count',
    (sql) => sql<{ nodes: number; events: number; used: number }[]>`
      SELECT (SELECT count(*)::int FROM nodes) AS nodes, (SELECT count(*)::int FROM node_events) AS events,
        (SELECT count(*)::int FROM join_tokens WHERE used_at IS NOT NULL) AS used`,
  );
  return row;
}

describe('a join token', () => {
  it('gives its machine a certificate that the authority signed for this node, as a client, for its lifetime', async () => {
    const { keyPem, request } = await createCertificateRequest('node-a');
    const answer = await enroll(await tokenFor(), request);
    expect(answer.authority).toBe(authority.certificatePem);
    const certificate = new X509Certificate(answer.certificate);
    expect(certificate.subject).toBe('CN=node-a');
    expect(certificate.subjectAltName).toBe('URI:urn:lambda-fleet:node:node-a');
    expect(certificate.keyUsage).toEqual([CLIENT_AUTH]);
    expect(certificate.ca).toBe(false);
    expect(certificate.verify(new X509Certificate(authority.certificatePem).publicKey)).toBe(true);
    expect(Date.parse(certificate.validTo) - Date.parse(certificate.validFrom)).toBe(LIFETIME_MS + BACKDATED_MS);
    expect(keyPem).toContain('PRIVATE KEY');
    const [row] = await postgres.database.run(
      'node',
      (sql) => sql<{ certificateExpiresAt: Date; kinds: string }[]>`
        SELECT certificate_expires_at, (SELECT string_agg(kind, ',') FROM node_events WHERE node_id = 'node-a') AS kinds
        FROM nodes WHERE id = 'node-a'`,
    );
    expect(row).toEqual({ certificateExpiresAt: new Date(certificate.validTo), kinds: 'joined' });
  });

  it('is nowhere in the database', async () => {
    const token = await tokenFor();
    const [row] = await postgres.database.run(
      'dump',
      (sql) => sql<{ dump: string }[]>`SELECT jsonb_agg(t)::text AS dump FROM join_tokens t`,
    );
    expect(row?.dump).toContain(token.slice(4, 14));
    expect(row?.dump).not.toContain(token.slice(15, 40));
  });

  it('lets nobody in twice, late, forged or unknown: one answer for all, the reason logged once, nothing stored', async () => {
    const used = await tokenFor();
    await enroll(used, await requestOf('node-used'));
    const expired = await tokenFor();
    await postgres.database.run(
      'age',
      (sql) => sql`UPDATE join_tokens SET expires_at = now() WHERE id = ${expired.slice(4, 14)}`,
    );
    const known = await tokenFor();
    const pin = known.slice(-43);
    const unknown = generateJoinToken(pin).token;
    // A secret of somebody's own, with the checksum that belongs to it, under an id that exists.
    const forged = forgeToken(known.slice(4, 14), pin);
    const before = await stored();
    const answers = new Set<string>();
    const cases = { used, expired, unknown, 'wrong-secret': forged, malformed: `${known}x` };
    for (const token of Object.values(cases)) {
      const refused = enroll(token, await requestOf('node-refused'));
      await expect(refused).rejects.toMatchObject({ code: status.PERMISSION_DENIED });
      answers.add(await refused.catch((err) => err.details));
    }
    expect(answers.size).toBe(1);
    expect(refusals()).toEqual(Object.keys(cases));
    expect(await stored()).toEqual(before);
    await expect(enroll(known, await requestOf('node-known'))).resolves.toBeDefined();
  });

  it('that names a node lets no other in, and stays good for its own', async () => {
    const token = await tokenFor('node-own');
    const before = await stored();
    await expect(enroll(token, await requestOf('node-other'))).rejects.toMatchObject({
      code: status.PERMISSION_DENIED,
    });
    expect(refusals()).toEqual(['for-another-node']);
    expect(await stored()).toEqual(before);
    await enroll(token, await requestOf('node-own'));
  });

  it('takes no id that a node has, unless it names this id', async () => {
    await enroll(await tokenFor(), await requestOf('node-taken'));
    const any = await tokenFor();
    await expect(enroll(any, await requestOf('node-taken'))).rejects.toMatchObject({
      code: status.PERMISSION_DENIED,
      details: expect.stringContaining('--node node-taken'),
    });
    expect(refusals()).toEqual(['id-taken']);
    await enroll(any, await requestOf('node-free'));
    await enroll(await tokenFor('node-taken'), await requestOf('node-taken'));
  });

  it('is not used up by a request that cannot be signed', async () => {
    const token = await tokenFor();
    const good = await requestOf('node-csr');
    const unsigned = Buffer.from(good);
    unsigned[unsigned.length - 1] = (unsigned.at(-1) ?? 0) ^ 1;
    const bad = [
      Buffer.alloc(0),
      Buffer.from('not a request'),
      Buffer.alloc(5_000, 0x30),
      unsigned,
      await requestOf('Node_Upper'),
      await requestOf('../node'),
    ];
    for (const request of bad) {
      await expect(enroll(token, request)).rejects.toMatchObject({ code: status.INVALID_ARGUMENT });
    }
    expect(refusals()).toHaveLength(bad.length);
    await enroll(token, good);
  });

  it('that is used by many at once makes exactly one certificate', async () => {
    const token = await tokenFor();
    const requests = await Promise.all(Array.from({ length: 6 }, (_, i) => requestOf(`node-race-${i}`)));
    const ends = await Promise.allSettled(requests.map((request) => enroll(token, request)));
    expect(ends.filter((end) => end.status === 'fulfilled')).toHaveLength(1);
  });

  it('and another one do not both take the same id at once', async () => {
    const tokens = await Promise.all([tokenFor(), tokenFor(), tokenFor(), tokenFor()]);
    const request = await requestOf('node-contended');
    const ends = await Promise.allSettled(tokens.map((token) => enroll(token, request)));
    expect(ends.filter((end) => end.status === 'fulfilled')).toHaveLength(1);
  });

  it('is not asked for while the database is away, and works when it is back', async () => {
    const token = await tokenFor();
    const request = await requestOf('node-outage');
    await postgres.restart(async () => {
      await expect(enroll(token, request)).rejects.toMatchObject({ code: status.UNAVAILABLE });
    });
    await expect
      .poll(
        () =>
          enroll(token, request).then(
            () => 'in',
            (err) => err.code,
          ),
        { timeout: 20_000, interval: 1_000 },
      )
      .toBe('in');
  });
});

describe('the door for strangers', () => {
  it('takes no more tries than it may, and no large message, and says so', async () => {
    const request = await requestOf('node-flood');
    const codes = await Promise.all(
      Array.from({ length: 60 }, () =>
        enroll('lfj_', request).then(
          () => 0,
          (err) => err.code,
        ),
      ),
    );
    expect(codes).toContain(status.RESOURCE_EXHAUSTED);
    expect(logged.filter(({ msg }) => msg === 'enrollments_limited')).toHaveLength(1);
    await expect(enroll('x'.repeat(20_000), request)).rejects.toMatchObject({ code: status.RESOURCE_EXHAUSTED });
  });
});

/** Well-formed, with a secret that was never given out under this id. */
function forgeToken(id: string, pin: string): string {
  const secret = randomBytes(32).toString('hex');
  const checksum = createHash('sha256').update(`lfj_${id}_${secret}.${pin}`).digest('hex').slice(0, 8);
  return `lfj_${id}_${secret}${checksum}.${pin}`;
}
