import { createPublicKey, webcrypto } from 'node:crypto';
import { KEY_ALGORITHM, privateKeyPem } from './issue-certificate.js';
import { loadX509 } from './load-x509.js';

/** What is wrong with a request that somebody sent. */
export class InvalidCertificateRequest extends Error {
  override readonly name = 'InvalidCertificateRequest';
}

/** A new key, as PEM, and a request for a certificate of it: PKCS #10, DER. */
export interface KeyAndRequest {
  readonly keyPem: string;
  readonly request: Buffer;
}

/** Of one with an ECDSA key, which is all that is taken: about 250. */
const REQUEST_BYTES_MAX = 4_096;

export async function createCertificateRequest(commonName: string): Promise<KeyAndRequest> {
  const x509 = await loadX509();
  const keys = await webcrypto.subtle.generateKey(KEY_ALGORITHM, true, ['sign', 'verify']);
  const request = await x509.Pkcs10CertificateRequestGenerator.create({
    name: [{ CN: [commonName] }],
    keys,
    signingAlgorithm: KEY_ALGORITHM,
  });
  return { keyPem: await privateKeyPem(keys.privateKey), request: Buffer.from(request.rawData) };
}

/**
 * Reads a request of a stranger. Only its name and its key count; what else it asks for is nobody's to ask.
 *
 * @throws InvalidCertificateRequest
 */
export async function readCertificateRequest(
  der: Uint8Array,
): Promise<{ readonly commonName: string; readonly publicKey: webcrypto.CryptoKey }> {
  if (der.length > REQUEST_BYTES_MAX) throw new InvalidCertificateRequest('the certificate request is too large');
  const x509 = await loadX509();
  try {
    const request = new x509.Pkcs10CertificateRequest(Uint8Array.from(der));
    const spki = Buffer.from(request.publicKey.rawData);
    const { asymmetricKeyType, asymmetricKeyDetails } = createPublicKey({ key: spki, format: 'der', type: 'spki' });
    if (asymmetricKeyType !== 'ec' || asymmetricKeyDetails?.namedCurve !== 'prime256v1') {
      throw new InvalidCertificateRequest('the key of a certificate request must be ECDSA on P-256');
    }
    // Who cannot sign with it must not get a certificate for somebody else's key.
    if (!(await request.verify())) {
      throw new InvalidCertificateRequest('the certificate request is not signed with its key');
    }
    const names = request.subjectName.getField('CN');
    const [commonName] = names;
    if (names.length !== 1 || commonName === undefined) {
      throw new InvalidCertificateRequest('the certificate request must have one common name');
    }
    const publicKey = await webcrypto.subtle.importKey('spki', spki, KEY_ALGORITHM, true, ['verify']);
    return { commonName, publicKey };
  } catch (err) {
    if (err instanceof InvalidCertificateRequest) throw err;
    throw new InvalidCertificateRequest('the certificate request is not PKCS #10 in DER', { cause: err });
  }
}
