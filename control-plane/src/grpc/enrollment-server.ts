import { Server, ServerCredentials, status } from '@grpc/grpc-js';
import { InvalidCertificateRequest } from '@lambda-fleet/common/certificates/certificate-request';
import { FleetError } from '@lambda-fleet/common/errors';
import type { Logger } from '@lambda-fleet/common/logger';
import { type EnrollmentServiceServer, EnrollmentServiceService } from '@lambda-fleet/proto';
import { type Enrollment, EnrollmentRefused } from '../enrollment/enrollment.js';
import { RateLimit } from '../enrollment/rate-limit.js';
import { type CallError, callError } from './call-error.js';
import { listen, type RunningGrpcServer } from './listen.js';

export interface EnrollmentServerOptions {
  readonly host: string;
  /** 0 takes any free port. */
  readonly port: number;
  /** PEM. Nobody is asked for a certificate. */
  readonly tls: { readonly ca: Buffer; readonly cert: Buffer; readonly key: Buffer };
  readonly log: Logger;
}

/** Anyone who reaches the port may call: a request is a token and a few hundred bytes. */
const MESSAGE_BYTES_MAX = 16 * 1024;
const CALLS_MAX = 8;
const TRIES = { burst: 20, perSecond: 5 };

/** Serves the door for machines that have no certificate yet. Rejects when the port is taken. */
export async function startEnrollmentServer(
  enrollment: Pick<Enrollment, 'enroll'>,
  options: EnrollmentServerOptions,
): Promise<RunningGrpcServer> {
  const server = new Server({
    'grpc.max_receive_message_length': MESSAGE_BYTES_MAX,
    'grpc.max_concurrent_streams': CALLS_MAX,
    'grpc.max_connection_age_ms': 60_000,
    'grpc.max_connection_age_grace_ms': 10_000,
  });
  server.addService(EnrollmentServiceService, enrollmentService(enrollment, options.log));
  const { ca, cert, key } = options.tls;
  // The authority goes with it: it is what a join token names, and how a machine learns whom to trust.
  const chain = Buffer.concat([cert, Buffer.from('\n'), ca]);
  const pair = { cert_chain: chain, private_key: key };
  return await listen(server, options, ServerCredentials.createSsl(null, [pair], false));
}

function enrollmentService(enrollment: Pick<Enrollment, 'enroll'>, log: Logger): EnrollmentServiceServer {
  const tries = new RateLimit(TRIES.burst, TRIES.perSecond);
  const notices = new RateLimit(1, 0.1);
  let calls = 0;
  return {
    enroll: async (call, answer) => {
      if (calls >= CALLS_MAX || !tries.take()) {
        if (notices.take()) log.warn({ peer: call.getPeer() }, 'enrollments_limited');
        return answer(callError(status.RESOURCE_EXHAUSTED, 'too many machines try to join; try again in a minute'));
      }
      calls += 1;
      try {
        const { token, certificateRequest } = call.request;
        answer(null, await enrollment.enroll(call.getPeer(), token, certificateRequest));
      } catch (err) {
        answer(certificateError(err, log));
      } finally {
        calls -= 1;
      }
    },
  };
}

/** Why there is no certificate, for the peer. */
export function certificateError(err: unknown, log: Logger): CallError {
  if (err instanceof EnrollmentRefused) return callError(status.PERMISSION_DENIED, err.message);
  if (err instanceof InvalidCertificateRequest) return callError(status.INVALID_ARGUMENT, err.message);
  if (err instanceof FleetError && err.retryable) return callError(status.UNAVAILABLE, err.message);
  log.error({ err }, 'certificate_not_issued');
  return callError(status.INTERNAL, 'no certificate could be issued');
}
