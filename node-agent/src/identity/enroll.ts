import { setTimeout as sleep } from 'node:timers/promises';
import { credentials, Metadata, status } from '@grpc/grpc-js';
import { Backoff } from '@lambda-fleet/common/backoff';
import { createCertificateRequest } from '@lambda-fleet/common/certificates/certificate-request';
import { errorText } from '@lambda-fleet/common/errors';
import { parseJoinToken } from '@lambda-fleet/common/join-token';
import type { Logger } from '@lambda-fleet/common/logger';
import { type Certificate, EnrollmentServiceClient } from '@lambda-fleet/proto';
import { checkIssued, VERIFY_SERVER } from './identity.js';
import type { StoredIdentity } from './identity-files.js';
import { ForeignAuthority, fetchPinnedAuthority } from './pinned-authority.js';

export interface EnrollOptions {
  /** `host:port` of the enrolment of each control plane; tried in turn. */
  readonly addresses: readonly string[];
  readonly token: string;
  readonly nodeId: string;
  /** Undefined tries until there is an answer. */
  readonly triesMax: number | undefined;
  readonly log: Logger;
}

/** The fleet does not let this machine in. The message says why and what to do. */
class EnrollmentFailed extends Error {
  override readonly name = 'EnrollmentFailed';
}

const DEADLINE_MS = 15_000;
/** Answers that the same token will get again. */
const FINAL: readonly unknown[] = [status.PERMISSION_DENIED, status.INVALID_ARGUMENT, status.UNIMPLEMENTED];

/** Takes the token for a certificate. @throws EnrollmentFailed, or what the last try failed with */
export async function enroll(options: EnrollOptions): Promise<StoredIdentity> {
  const backoff = new Backoff({ firstMs: 500, capMs: 10_000 });
  const { addresses, log } = options;
  for (let tries = 1; ; tries += 1) {
    const address = addresses[(tries - 1) % addresses.length] ?? '';
    try {
      return await tryEnroll(address, options);
    } catch (err) {
      if (err instanceof EnrollmentFailed) throw err;
      if (err instanceof ForeignAuthority) throw new EnrollmentFailed(err.message, { cause: err });
      const { code, details } = err as { code?: unknown; details?: string };
      if (FINAL.includes(code)) {
        throw new EnrollmentFailed(`The fleet did not let this machine in: ${details ?? errorText(err)}`, {
          cause: err,
        });
      }
      if (tries === options.triesMax) throw err;
      const delayMs = backoff.next();
      log.warn({ address, reason: errorText(err), delayMs: Math.round(delayMs) }, 'enrollment_failed');
      await sleep(delayMs);
    }
  }
}

async function tryEnroll(address: string, { token, nodeId, log }: EnrollOptions): Promise<StoredIdentity> {
  const parts = parseJoinToken(token);
  if (parts === undefined) {
    throw new EnrollmentFailed(
      'LAMBDA_JOIN_TOKEN is no whole join token: copy all of what `lambda node join-token` printed.',
    );
  }
  const { host, port } = splitAddress(address);
  const authority = await fetchPinnedAuthority(host, port, parts.pin);
  log.debug({ address }, 'authority_found');
  const ca = Buffer.from(authority);
  const { keyPem, request } = await createCertificateRequest(nodeId);
  const { certificate } = await sendToken(address, ca, { token, certificateRequest: request });
  const files = { ca, cert: Buffer.from(certificate), key: Buffer.from(keyPem) };
  checkIssued(files, nodeId);
  return { ...files, tokenId: parts.id };
}

/** The connection trusts this authority alone, and asks for a server's certificate of this name. */
async function sendToken(
  address: string,
  ca: Buffer,
  request: { token: string; certificateRequest: Buffer },
): Promise<Certificate> {
  const client = new EnrollmentServiceClient(address, credentials.createSsl(ca, null, null, VERIFY_SERVER), {
    'grpc.use_local_subchannel_pool': 1,
    'grpc.enable_retries': 0,
  });
  try {
    return await new Promise<Certificate>((resolve, reject) => {
      client.enroll(request, new Metadata(), { deadline: Date.now() + DEADLINE_MS }, (err, answer) =>
        err === null ? resolve(answer) : reject(err),
      );
    });
  } finally {
    client.close();
  }
}

/** `host:port`, an IPv6 address in brackets. */
function splitAddress(address: string): { host: string; port: number } {
  const colon = address.lastIndexOf(':');
  return { host: address.slice(0, colon).replace(/^\[(.*)\]$/, '$1'), port: Number(address.slice(colon + 1)) };
}
