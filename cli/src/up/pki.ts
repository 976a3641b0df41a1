import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  type Authority,
  type CertificateRequest,
  issueAuthority,
  issueCertificate,
  type KeyAndCertificate,
} from '@lambda-fleet/common/certificates/issue-certificate';
import { nodeUri } from '@lambda-fleet/common/certificates/node-certificate';

/** Paths of what one process needs for mutual TLS. */
export interface TlsFiles {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

/** Issued again when less than this is left, so that a fleet started now can run for a while. */
const RENEW_BEFORE_MS = 30 * 24 * 3_600_000;

/** A removal counts until the end of the second that follows it, and certificates hold whole seconds. */
const AFTER_REMOVAL_MS = 2_000;

/**
 * The certificates of one data directory: an authority, and one certificate
 * for each process. What is there and sound is used again.
 */
export class Pki {
  #authority: Authority | undefined;

  constructor(private readonly folder: string) {}

  /** What the control plane signs with, so that other machines can join. */
  get authorityKey(): string {
    return join(this.folder, 'ca.key');
  }

  /** For the control plane, whose agents dial it on loopback. */
  controlPlane(): Promise<TlsFiles> {
    return this.#ensure('control-plane', {
      commonName: 'control-plane',
      usage: 'server',
      dnsNames: ['localhost'],
      addresses: ['127.0.0.1', '::1'],
    });
  }

  /**
   * For an agent: the subject's common name is the node's id.
   *
   * @param anew makes another one: the present one counts no more when the node was removed
   */
  node(id: string, anew = false): Promise<TlsFiles> {
    return this.#ensure(
      id,
      { commonName: id, usage: 'client', dnsNames: [], addresses: [], uris: [nodeUri(id)] },
      anew,
    );
  }

  async #ensure(name: string, request: CertificateRequest, anew = false): Promise<TlsFiles> {
    const authority = await this.#loadAuthority();
    const present = anew ? undefined : await this.#read(name);
    if (present === undefined || !isSound(present, authority.certificatePem) || !fits(present, request)) {
      const issuedAt = Date.now() + (anew ? AFTER_REMOVAL_MS : 0);
      await this.#write(name, await issueCertificate(authority, request, issuedAt));
    }
    return {
      ca: join(this.folder, 'ca.crt'),
      cert: join(this.folder, `${name}.crt`),
      key: join(this.folder, `${name}.key`),
    };
  }

  async #loadAuthority(): Promise<Authority> {
    if (this.#authority !== undefined) return this.#authority;
    const present = await this.#read('ca');
    // The authority vouches for itself, so it is checked against itself.
    const sound = present !== undefined && isSound(present, present.certificatePem);
    const authority = sound ? present : await issueAuthority();
    if (!sound) await this.#write('ca', authority);
    this.#authority = authority;
    return authority;
  }

  async #read(name: string): Promise<KeyAndCertificate | undefined> {
    try {
      const [keyPem, certificatePem] = await Promise.all([
        readFile(join(this.folder, `${name}.key`), 'utf8'),
        readFile(join(this.folder, `${name}.crt`), 'utf8'),
      ]);
      return { keyPem, certificatePem };
    } catch (err) {
      if ((err as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw err;
    }
  }

  /** A crash between the two files leaves a pair that does not match, which the next start sees and replaces. */
  async #write(name: string, pair: KeyAndCertificate): Promise<void> {
    for (const [file, text, mode] of [
      [`${name}.key`, pair.keyPem, 0o600],
      [`${name}.crt`, pair.certificatePem, 0o644],
    ] as const) {
      const unfinished = join(this.folder, `${file}.unfinished`);
      await rm(unfinished, { force: true });
      await writeFile(unfinished, text, { mode });
      await rename(unfinished, join(this.folder, file));
    }
  }
}

/** Whether the key belongs to the certificate, the authority signed it, and it lasts long enough. */
function isSound(pair: KeyAndCertificate, authorityPem: string): boolean {
  try {
    const certificate = new X509Certificate(pair.certificatePem);
    const authority = new X509Certificate(authorityPem);
    return (
      certificate.checkPrivateKey(createPrivateKey(pair.keyPem)) &&
      certificate.checkIssued(authority) &&
      certificate.verify(authority.publicKey) &&
      Date.parse(certificate.validFrom) <= Date.now() &&
      Date.parse(certificate.validTo) - Date.now() > RENEW_BEFORE_MS
    );
  } catch {
    // Not parseable: as good as absent, and replaced.
    return false;
  }
}

function fits(pair: KeyAndCertificate, request: CertificateRequest): boolean {
  const certificate = new X509Certificate(pair.certificatePem);
  return (
    certificate.subject.split('\n').includes(`CN=${request.commonName}`) &&
    request.dnsNames.every((name) => certificate.checkHost(name) !== undefined) &&
    request.addresses.every((address) => certificate.checkIP(address) !== undefined)
  );
}
