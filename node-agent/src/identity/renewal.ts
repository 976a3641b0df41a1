import { Metadata } from '@grpc/grpc-js';
import { Backoff } from '@lambda-fleet/common/backoff';
import { createCertificateRequest } from '@lambda-fleet/common/certificates/certificate-request';
import { errorText } from '@lambda-fleet/common/errors';
import type { Logger } from '@lambda-fleet/common/logger';
import { type Certificate, FleetServiceClient } from '@lambda-fleet/proto';
import { namedAs, type Replica } from '../link/replica-list.js';
import type { Identity } from './identity.js';
import type { IdentityFiles } from './identity-files.js';

export interface RenewalOptions {
  readonly identity: Identity;
  readonly files: Pick<IdentityFiles, 'saveRenewed'>;
  /** Every replica of the control plane that is known now. */
  readonly replicas: () => readonly Replica[];
  readonly log: Logger;
  readonly clocks?: Clocks;
}

/** Milliseconds. */
export interface Clocks {
  /** May be set. */
  wall(): number;
  /** Only rises. */
  passed(): number;
}

const CHECK_INTERVAL_MS = 15_000;
const DEADLINE_MS = 15_000;
const RENEWED_AT = 2 / 3;
/** So that machines that joined together do not renew together. */
const SPREAD = 1 / 50;
const RETRY = { firstMs: 120_000, capMs: 300_000 };

const CLOCKS: Clocks = { wall: () => Date.now(), passed: () => performance.now() };

/**
 * Keeps a certificate fresh: asks for the next one at two thirds of its time.
 *
 * That time is told by the wall clock and by the time that has passed since, whichever is further: a clock that is set back
 * delays nothing, and one that is set forward renews early.
 */
export class Renewal {
  readonly #clocks: Clocks;
  readonly #backoff = new Backoff(RETRY);
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> | undefined;
  #dueShare = 0;
  /** Of the present certificate, when `#since` was taken. */
  #ageMs = 0;
  #since = 0;
  #notBefore = 0;

  constructor(private readonly options: RenewalOptions) {
    this.#clocks = options.clocks ?? CLOCKS;
    this.#begin();
  }

  start(): void {
    this.#timer = setInterval(() => void this.check(), CHECK_INTERVAL_MS).unref();
    void this.check();
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    await this.#running;
  }

  /** Renews the certificate when it is time to. Never rejects. */
  check(): Promise<void> {
    this.#running ??= this.#renewIfDue().finally(() => {
      this.#running = undefined;
    });
    return this.#running;
  }

  get #isDue(): boolean {
    const { issuedAt, expiresAt } = this.options.identity.certificate;
    const dueMs = (expiresAt - issuedAt) * this.#dueShare;
    const passedMs = this.#ageMs + this.#clocks.passed() - this.#since;
    return Math.max(passedMs, this.#clocks.wall() - issuedAt) >= dueMs && this.#clocks.passed() >= this.#notBefore;
  }

  async #renewIfDue(): Promise<void> {
    if (!this.#isDue) return;
    const { identity, log } = this.options;
    const { nodeId } = identity;
    try {
      await this.#renew();
      this.#begin();
      log.info({ node: nodeId, expiresAt: this.#expiry }, 'certificate_renewed');
    } catch (err) {
      this.#notBefore = this.#clocks.passed() + this.#backoff.next();
      const reason = errorText(err);
      if (identity.certificate.expiresAt > this.#clocks.wall()) {
        log.warn({ reason, expiresAt: this.#expiry }, 'certificate_not_renewed');
      } else {
        const todo = `start the agent with a token of \`lambda node join-token --node ${nodeId}\` in LAMBDA_JOIN_TOKEN`;
        log.error({ reason, expiredAt: this.#expiry, todo }, 'certificate_expired');
      }
    }
  }

  async #renew(): Promise<void> {
    const { identity, files } = this.options;
    const { keyPem, request } = await createCertificateRequest(identity.nodeId);
    const { certificate } = await this.#askAll(request);
    const { ca } = identity.files;
    const renewed = { ca, cert: Buffer.from(certificate), key: Buffer.from(keyPem) };
    identity.replace(renewed);
    await files.saveRenewed(renewed);
  }

  /** One that signs is enough. */
  async #askAll(request: Buffer): Promise<Certificate> {
    const refusals: string[] = [];
    for (const replica of this.options.replicas()) {
      try {
        return await this.#ask(replica, request);
      } catch (err) {
        refusals.push(`${replica.address}: ${errorText(err)}`);
      }
    }
    throw new Error(refusals.join('; ') || 'no control plane is known');
  }

  /** On a connection of its own: that of a session shows the certificate that the session began with, which may have expired. */
  async #ask(replica: Replica, certificateRequest: Buffer): Promise<Certificate> {
    const client = new FleetServiceClient(replica.address, this.options.identity.credentials, {
      ...namedAs(replica),
      'grpc.use_local_subchannel_pool': 1,
      'grpc.enable_retries': 0,
    });
    try {
      return await new Promise<Certificate>((resolve, reject) => {
        client.renew({ certificateRequest }, new Metadata(), { deadline: Date.now() + DEADLINE_MS }, (err, answer) =>
          err === null ? resolve(answer) : reject(err),
        );
      });
    } finally {
      client.close();
    }
  }

  #begin(): void {
    const { issuedAt, expiresAt } = this.options.identity.certificate;
    this.#dueShare = RENEWED_AT + Math.random() * SPREAD;
    this.#ageMs = Math.min(Math.max(0, this.#clocks.wall() - issuedAt), expiresAt - issuedAt);
    this.#since = this.#clocks.passed();
    this.#backoff.reset();
  }

  get #expiry(): string {
    return new Date(this.options.identity.certificate.expiresAt).toISOString();
  }
}
