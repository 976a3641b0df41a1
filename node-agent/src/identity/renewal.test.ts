import { ServerCredentials } from '@grpc/grpc-js';
import { readCertificateRequest } from '@lambda-fleet/common/certificates/certificate-request';
import {
  type Authority,
  issueAuthority,
  issueCertificate,
  signCertificate,
} from '@lambda-fleet/common/certificates/issue-certificate';
import { createLogger } from '@lambda-fleet/common/logger';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { PlayedReplica, type PlayedReplicaOptions } from '../../test-support/played-replica.js';
import type { Replica } from '../link/replica-list.js';
import { Identity } from './identity.js';
import { Renewal } from './renewal.js';

const DAY_MS = 24 * 3_600_000;

let authority: Authority;
beforeAll(async () => {
  authority = await issueAuthority();
});

const replicas: PlayedReplica[] = [];
afterEach(() => {
  for (const replica of replicas.splice(0)) replica.kill();
});

/** One whose certificate names `fleet.test` alone. */
async function startReplica(renew?: PlayedReplicaOptions['renew']): Promise<string> {
  const { certificatePem, keyPem } = await issueCertificate(authority, {
    ...{ commonName: 'control-plane', usage: 'server', dnsNames: ['fleet.test'], addresses: [] },
  });
  const pair = { cert_chain: Buffer.from(certificatePem), private_key: Buffer.from(keyPem) };
  const credentials = ServerCredentials.createSsl(Buffer.from(authority.certificatePem), [pair], true);
  const replica = await PlayedReplica.start(renew === undefined ? { credentials } : { credentials, renew });
  replicas.push(replica);
  return replica.address;
}

const sign: PlayedReplicaOptions['renew'] = async ({ certificateRequest }) => {
  const { publicKey } = await readCertificateRequest(certificateRequest as Buffer);
  const certificate = await signCertificate(authority, {
    ...{ commonName: 'node-1', publicKey, usage: 'client', dnsNames: [], addresses: [] },
    ...{ notBefore: new Date(Date.now() - 1_000), notAfter: new Date(Date.now() + DAY_MS) },
  });
  return { certificate, authority: authority.certificatePem };
};

/** Whether a certificate that is due is renewed. */
async function isRenewedAt(...known: Replica[]): Promise<boolean> {
  const { certificatePem, keyPem } = await issueCertificate(authority, {
    ...{ commonName: 'node-1', usage: 'client', dnsNames: [], addresses: [] },
  });
  const cert = Buffer.from(certificatePem);
  const identity = new Identity({ ca: Buffer.from(authority.certificatePem), cert, key: Buffer.from(keyPem) });
  const renewal = new Renewal({
    identity,
    files: { saveRenewed: async () => undefined },
    replicas: () => known,
    clocks: { wall: () => identity.certificate.expiresAt - 1_000, passed: () => 0 },
    log: createLogger('test', 'silent'),
  });
  await renewal.check();
  await renewal.close();
  return !identity.files.cert.equals(cert);
}

describe('a certificate', () => {
  it('is renewed by another replica when the first one signs nothing', async () => {
    const unable = { address: await startReplica(), serverName: 'fleet.test' };
    expect(await isRenewedAt(unable)).toBe(false);
    expect(await isRenewedAt(unable, { address: await startReplica(sign), serverName: 'fleet.test' })).toBe(true);
  });

  it('is renewed at one address of a name only by a server that has a certificate of that name', async () => {
    const address = await startReplica(sign);
    expect(await isRenewedAt({ address, serverName: 'other.test' })).toBe(false);
    expect(await isRenewedAt({ address, serverName: undefined })).toBe(false);
    expect(await isRenewedAt({ address, serverName: 'fleet.test' })).toBe(true);
  });
});
