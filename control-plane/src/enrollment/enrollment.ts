import { X509Certificate } from 'node:crypto';
import {
  InvalidCertificateRequest,
  readCertificateRequest,
} from '@lambda-fleet/common/certificates/certificate-request';
import { type Authority, BACKDATED_MS, signCertificate } from '@lambda-fleet/common/certificates/issue-certificate';
import { NODE_ID, type NodeCertificate, nodeUri } from '@lambda-fleet/common/certificates/node-certificate';
import { authorityPin } from '@lambda-fleet/common/join-token';
import type { Logger } from '@lambda-fleet/common/logger';
import type { Certificate } from '@lambda-fleet/proto';
import type { Database } from '../db/database.js';
import { JoinTokens } from './join-tokens.js';
import { RateLimit } from './rate-limit.js';
import { renewCertificate, takeToken } from './take-token.js';

export interface EnrollmentOptions {
  readonly database: Database;
  readonly authority: Authority;
  readonly lifetimeMs: number;
  readonly log: Logger;
}

/** A peer gets no certificate. The message is for the peer; what is really the matter is in the log. */
export class EnrollmentRefused extends Error {
  override readonly name = 'EnrollmentRefused';
}

/** One text for every token that lets nobody in: whoever guesses learns nothing of how near it was. */
const BAD_TOKEN =
  'This join token lets nobody in: it is unknown, was used, or has expired. Make a new one with `lambda node join-token`.';

/**
 * Makes nodes of machines: takes join tokens for certificates, and certificates for newer ones.
 *
 * When a certificate was issued is told by the database, whose clock also says when a node was removed.
 */
export class Enrollment {
  readonly tokens: JoinTokens;
  readonly #logged = new RateLimit(20, 1);
  #unlogged = 0;

  constructor(private readonly options: EnrollmentOptions) {
    this.tokens = new JoinTokens(
      options.database,
      authorityPin(new X509Certificate(options.authority.certificatePem).raw),
    );
  }

  /**
   * @param peer its address, for the log
   * @throws EnrollmentRefused, InvalidCertificateRequest (the token stays good), FleetError `unavailable`
   */
  async enroll(peer: string, token: string, request: Uint8Array): Promise<Certificate> {
    const { commonName: nodeId, publicKey } = await this.#read(peer, request);
    const known = await this.tokens.find(token);
    const about = { peer, node: nodeId };
    if (typeof known === 'string') throw this.#refused(about, known, BAD_TOKEN);
    const of = { ...about, token: known.id };
    if (known.nodeId !== null && known.nodeId !== nodeId) {
      throw this.#refused(of, 'for-another-node', `This join token is not for ${nodeId}, but for another node.`);
    }
    const { database, lifetimeMs, log } = this.options;
    const taken = await takeToken(database, { token: known, nodeId, lifetimeMs });
    if (taken === 'used') throw this.#refused(of, 'used-meanwhile', BAD_TOKEN);
    if (taken === 'id-taken') {
      const again = `If this is the same machine set up again, use one of \`lambda node join-token --node ${nodeId}\`.`;
      throw this.#refused(of, 'id-taken', `The fleet has a node ${nodeId} already. ${again}`);
    }
    const certificate = await this.#sign(nodeId, publicKey, taken);
    log.info({ ...of, expiresAt: taken.toISOString() }, 'node_joined');
    return certificate;
  }

  /**
   * @param peer whose certificate the connection was opened with
   * @throws EnrollmentRefused, InvalidCertificateRequest, FleetError `unavailable`
   */
  async renew(peer: NodeCertificate, request: Uint8Array): Promise<Certificate> {
    const { nodeId } = peer;
    const { commonName, publicKey } = await this.#read(nodeId, request);
    const about = { peer: nodeId, node: commonName };
    if (commonName !== nodeId) {
      throw this.#refused(about, 'for-another-node', `A certificate of ${nodeId} is renewed for ${nodeId} only.`);
    }
    if (peer.expiresAt <= Date.now()) {
      // A connection may outlive the certificate that it was opened with.
      throw this.#refused(about, 'expired', 'The certificate has expired. Connect with a newer one, or join again.');
    }
    const { database, lifetimeMs, log } = this.options;
    const expiresAt = await renewCertificate(database, { ...peer, lifetimeMs });
    if (expiresAt === undefined) {
      throw this.#refused(about, 'removed', `The node ${nodeId} is not in the fleet any more.`);
    }
    const certificate = await this.#sign(nodeId, publicKey, expiresAt);
    log.info({ node: nodeId, expiresAt: expiresAt.toISOString() }, 'certificate_renewed');
    return certificate;
  }

  async #read(peer: string, der: Uint8Array): ReturnType<typeof readCertificateRequest> {
    try {
      const request = await readCertificateRequest(der);
      if (NODE_ID.test(request.commonName)) return request;
      throw new InvalidCertificateRequest(
        "a node's id has 1 to 63 characters of a-z, 0-9, '.' and '-', and begins with a letter or a digit",
      );
    } catch (err) {
      if (err instanceof InvalidCertificateRequest) this.#logRefusal({ peer }, err.message);
      throw err;
    }
  }

  async #sign(nodeId: string, publicKey: Parameters<typeof signCertificate>[1]['publicKey'], expiresAt: Date) {
    const { authority, lifetimeMs } = this.options;
    const certificate = await signCertificate(authority, {
      commonName: nodeId,
      publicKey,
      usage: 'client',
      dnsNames: [],
      addresses: [],
      uris: [nodeUri(nodeId)],
      notBefore: new Date(expiresAt.getTime() - lifetimeMs - BACKDATED_MS),
      notAfter: expiresAt,
    });
    return { certificate, authority: authority.certificatePem };
  }

  #refused(about: object, reason: string, message: string): EnrollmentRefused {
    this.#logRefusal(about, reason);
    return new EnrollmentRefused(message);
  }

  /** Strangers must not fill the disk: what is too much is counted. */
  #logRefusal(about: object, reason: string): void {
    if (!this.#logged.take()) {
      this.#unlogged += 1;
      return;
    }
    const unlogged = this.#unlogged === 0 ? {} : { unlogged: this.#unlogged };
    this.#unlogged = 0;
    this.options.log.warn({ ...about, reason, ...unlogged }, 'enrollment_refused');
  }
}
