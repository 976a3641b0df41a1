import { createPrivateKey, type KeyObject, randomBytes, webcrypto, X509Certificate } from 'node:crypto';
import { loadX509 } from './load-x509.js';

/** Both as PEM. */
export interface KeyAndCertificate {
  readonly keyPem: string;
  readonly certificatePem: string;
}

export type Authority = KeyAndCertificate;

interface CertificateSubject {
  readonly commonName: string;
  readonly usage: 'server' | 'client';
  readonly dnsNames: readonly string[];
  readonly addresses: readonly string[];
  readonly uris?: readonly string[];
}

export type CertificateRequest = CertificateSubject;

export interface SignedCertificate extends CertificateSubject {
  readonly publicKey: webcrypto.CryptoKey;
  readonly notBefore: Date;
  readonly notAfter: Date;
}

const DAY_MS = 24 * 3_600_000;
const AUTHORITY_DAYS = 3_650;
const CERTIFICATE_DAYS = 365;
/** For clocks that differ a little. The same everywhere, so that a certificate says when it was issued. */
export const BACKDATED_MS = 10 * 60_000;
/** Of the keys that are made here. */
export const KEY_ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;

export async function issueAuthority(): Promise<Authority> {
  const x509 = await loadX509();
  const keys = await webcrypto.subtle.generateKey(KEY_ALGORITHM, true, ['sign', 'verify']);
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: serialNumber(),
    // Unique, so that a certificate of an older authority is never taken for one of this.
    name: [{ CN: [`Lambda Fleet ${randomBytes(4).toString('hex')}`] }],
    ...validity(AUTHORITY_DAYS),
    keys,
    signingAlgorithm: KEY_ALGORITHM,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return { keyPem: await privateKeyPem(keys.privateKey), certificatePem: certificate.toString('pem') };
}

/** A certificate with a key that is made for it. `issuedAt` is what it says of itself. */
export async function issueCertificate(
  authority: Authority,
  request: CertificateRequest,
  issuedAt = Date.now(),
): Promise<KeyAndCertificate> {
  const keys = await webcrypto.subtle.generateKey(KEY_ALGORITHM, true, ['sign', 'verify']);
  const signed = { ...request, publicKey: keys.publicKey, ...validity(CERTIFICATE_DAYS, issuedAt) };
  return {
    keyPem: await privateKeyPem(keys.privateKey),
    certificatePem: await signCertificate(authority, signed),
  };
}

/** A certificate for somebody else's key. Returns PEM. */
export async function signCertificate(authority: Authority, signed: SignedCertificate): Promise<string> {
  const x509 = await loadX509();
  const issuer = new x509.X509Certificate(authority.certificatePem);
  const { key: signingKey, algorithm: signingAlgorithm } = await importSigningKey(authority.keyPem);
  const names = [
    ...signed.dnsNames.map((value) => ({ type: 'dns' as const, value })),
    ...signed.addresses.map((value) => ({ type: 'ip' as const, value })),
    ...(signed.uris ?? []).map((value) => ({ type: 'url' as const, value })),
  ];
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: serialNumber(),
    subject: [{ CN: [signed.commonName] }],
    issuer: issuer.subjectName,
    notBefore: signed.notBefore,
    notAfter: signed.notAfter,
    publicKey: signed.publicKey,
    signingKey,
    signingAlgorithm,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([
        signed.usage === 'server' ? x509.ExtendedKeyUsage.serverAuth : x509.ExtendedKeyUsage.clientAuth,
      ]),
      await x509.AuthorityKeyIdentifierExtension.create(issuer),
      await x509.SubjectKeyIdentifierExtension.create(signed.publicKey),
      ...(names.length === 0 ? [] : [new x509.SubjectAlternativeNameExtension(names)]),
    ],
  });
  return certificate.toString('pem');
}

/** @throws Error when the key is not that of the certificate, the certificate is no authority's, or it cannot sign here */
export function checkAuthority({ certificatePem, keyPem }: Authority): void {
  const certificate = new X509Certificate(certificatePem);
  const key = createPrivateKey(keyPem);
  if (!certificate.ca) throw new Error('the CA certificate is not that of an authority');
  if (!certificate.checkPrivateKey(key)) throw new Error('the key is not that of the CA certificate');
  signingAlgorithmOf(key);
}

async function importSigningKey(pem: string) {
  const key = createPrivateKey(pem);
  const algorithm = signingAlgorithmOf(key);
  const der = key.export({ format: 'der', type: 'pkcs8' });
  return { key: await webcrypto.subtle.importKey('pkcs8', der, algorithm, false, ['sign']), algorithm };
}

const CURVES: Readonly<Record<string, string>> = { prime256v1: 'P-256', secp384r1: 'P-384', secp521r1: 'P-521' };

/** Authorities may have been made elsewhere, with other keys than ours. */
function signingAlgorithmOf({ asymmetricKeyType: type, asymmetricKeyDetails: details }: KeyObject) {
  const namedCurve = CURVES[details?.namedCurve ?? ''];
  if (type === 'ec' && namedCurve !== undefined) return { name: 'ECDSA', namedCurve, hash: 'SHA-256' };
  if (type === 'rsa' && (details?.modulusLength ?? 0) >= 2_048) return { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' };
  throw new Error('the key of an authority must be ECDSA on P-256, P-384 or P-521, or RSA of at least 2048 bits');
}

/** Positive and random: 15 bytes below a fixed first one. */
function serialNumber(): string {
  return `01${randomBytes(15).toString('hex')}`;
}

function validity(days: number, issuedAt = Date.now()): { notBefore: Date; notAfter: Date } {
  return { notBefore: new Date(issuedAt - BACKDATED_MS), notAfter: new Date(issuedAt + days * DAY_MS) };
}

/** PKCS #8. */
export async function privateKeyPem(key: webcrypto.CryptoKey): Promise<string> {
  const der = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', key)).toString('base64');
  return `-----BEGIN PRIVATE KEY-----\n${(der.match(/.{1,64}/g) ?? []).join('\n')}\n-----END PRIVATE KEY-----\n`;
}
