import { X509Certificate } from 'node:crypto';
import { type Authority, issueAuthority, issueCertificate } from '@lambda-fleet/common/certificates/issue-certificate';
import { beforeAll, describe, expect, it } from 'vitest';
import { Identity, VERIFY_SERVER } from './identity.js';

let authority: Authority;
beforeAll(async () => {
  authority = await issueAuthority();
});

async function issued(commonName: string, usage: 'server' | 'client') {
  const names = { dnsNames: ['localhost'], addresses: ['127.0.0.1'] };
  const { certificatePem, keyPem } = await issueCertificate(authority, { commonName, usage, ...names });
  return { ca: Buffer.from(authority.certificatePem), cert: Buffer.from(certificatePem), key: Buffer.from(keyPem) };
}

describe('the certificate of a control plane', () => {
  const verify = (host: string, cert: Buffer) =>
    VERIFY_SERVER.checkServerIdentity?.(host, { raw: new X509Certificate(cert).raw } as never);

  it('is one for servers, with the name or the address that was dialled', async () => {
    const { cert } = await issued('control-plane', 'server');
    expect(verify('localhost', cert)).toBeUndefined();
    expect(verify('127.0.0.1', cert)).toBeUndefined();
    expect(verify('127.0.0.2', cert)).toBeInstanceOf(Error);
    expect(verify('example.org', cert)).toBeInstanceOf(Error);
    expect(verify('localhost', (await issued('node-1', 'client')).cert)).toBeInstanceOf(Error);
  });
});

describe('an identity', () => {
  it('is replaced by a certificate of the same node alone, and has new credentials then', async () => {
    const identity = new Identity(await issued('node-1', 'client'));
    const { credentials } = identity;
    const other = await issued('node-2', 'client');
    expect(() => identity.replace(other)).toThrow('one of node-2');
    const mixed = { ...(await issued('node-1', 'client')), key: other.key };
    expect(() => identity.replace(mixed)).toThrow('private key');
    const foreign = { ...(await issued('node-1', 'client')), ca: Buffer.from((await issueAuthority()).certificatePem) };
    expect(() => identity.replace(foreign)).toThrow('not signed');
    expect(identity.credentials).toBe(credentials);
    identity.replace(await issued('node-1', 'client'));
    expect(identity.credentials).not.toBe(credentials);
  });
});
