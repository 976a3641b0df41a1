import { generateKeyPairSync, webcrypto, X509Certificate } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { createCertificateRequest, readCertificateRequest } from './certificate-request.js';
import { BACKDATED_MS, checkAuthority, issueAuthority, issueCertificate } from './issue-certificate.js';
import { loadX509 } from './load-x509.js';
import { certificateTimes, nodeUri } from './node-certificate.js';

const CLIENT = { commonName: 'node-1', usage: 'client', dnsNames: [], addresses: [] } as const;

/** As an operator may have made it with other tools. */
async function rsaAuthority() {
  const x509 = await loadX509();
  const algorithm = {
    ...{ name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256', modulusLength: 2_048 },
    publicExponent: new Uint8Array([1, 0, 1]),
  };
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    ...{ serialNumber: '01', name: [{ CN: ['Some Company'] }], keys, signingAlgorithm: algorithm },
    extensions: [new x509.BasicConstraintsExtension(true, 0, true)],
  });
  const der = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey)).toString('base64');
  return {
    keyPem: `-----BEGIN PRIVATE KEY-----\n${der}\n-----END PRIVATE KEY-----\n`,
    certificatePem: certificate.toString('pem'),
  };
}

describe('an authority', () => {
  it.each([
    ['made here', issueAuthority],
    ['made elsewhere, with RSA', rsaAuthority],
  ])('%s signs certificates', async (_where, make) => {
    const authority = await make();
    checkAuthority(authority);
    const issued = new X509Certificate((await issueCertificate(authority, CLIENT)).certificatePem);
    expect(issued.verify(new X509Certificate(authority.certificatePem).publicKey)).toBe(true);
  });

  it('is none with the key of another, with a certificate that may not sign, or with a key of a kind that cannot', async () => {
    const [one, other] = [await issueAuthority(), await issueAuthority()];
    expect(() => checkAuthority({ ...one, keyPem: other.keyPem })).toThrow('not that of the CA certificate');
    const leaf = await issueCertificate(one, CLIENT);
    expect(() => checkAuthority(leaf)).toThrow('not that of an authority');
  });
});

describe('a certificate request', () => {
  it('is read as it was made', async () => {
    const { request } = await createCertificateRequest('node-1');
    expect((await readCertificateRequest(request)).commonName).toBe('node-1');
  });

  it('with a key of another kind, several names or none is refused', async () => {
    const x509 = await loadX509();
    const make = async (algorithm: object, name: string) =>
      Buffer.from(
        (
          await x509.Pkcs10CertificateRequestGenerator.create({
            name,
            keys: (await webcrypto.subtle.generateKey(algorithm as never, true, ['sign', 'verify'])) as never,
            signingAlgorithm: algorithm as never,
          })
        ).rawData,
      );
    const p384 = { name: 'ECDSA', namedCurve: 'P-384', hash: 'SHA-384' };
    const p256 = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
    await expect(readCertificateRequest(await make(p384, 'CN=a'))).rejects.toThrow('P-256');
    await expect(readCertificateRequest(await make(p256, 'CN=a, CN=b'))).rejects.toThrow('one common name');
    await expect(readCertificateRequest(await make(p256, 'O=a'))).rejects.toThrow('one common name');
    const { publicKey } = generateKeyPairSync('ed25519');
    await expect(readCertificateRequest(publicKey.export({ format: 'der', type: 'spki' }))).rejects.toThrow('PKCS #10');
  });
});

describe('when a certificate was issued', () => {
  const validFrom = 'Nov 25 14:00:00 2026 GMT';
  const validTo = 'Nov 26 14:00:00 2026 GMT';

  it('is later than its beginning when it was issued here, which the id in its alternative name says', () => {
    const { issuedAt } = certificateTimes({ validFrom, validTo, subjectAltName: `URI:${nodeUri('node-1')}` });
    expect(issuedAt).toBe(Date.parse(validFrom) + BACKDATED_MS);
  });

  it.each([undefined, 'DNS:node-1'])('is its beginning with the alternative name %s', (subjectAltName) => {
    expect(certificateTimes({ validFrom, validTo, subjectAltName }).issuedAt).toBe(Date.parse(validFrom));
  });
});
