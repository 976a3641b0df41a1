import { Server, ServerCredentials } from '@grpc/grpc-js';
import { DeadlineExceeded, withDeadline } from '@lambda-fleet/common/deadline';
import { type FleetServiceServer, FleetServiceService } from '@lambda-fleet/proto';

export interface FleetServerOptions {
  readonly host: string;
  /** 0 takes any free port. */
  readonly port: number;
  /** PEM. Agents must present a certificate that this CA signed. */
  readonly tls: { readonly ca: Buffer; readonly cert: Buffer; readonly key: Buffer };
}

export interface RunningFleetServer {
  readonly port: number;
  /** Resolves when the port is closed. Bidirectional streams never end by themselves, so it forces them. */
  close(): Promise<void>;
}

const CLOSE_GRACE_MS = 500;

/** Serves the link. Rejects when the port is taken. */
export async function startFleetServer(
  service: FleetServiceServer,
  options: FleetServerOptions,
): Promise<RunningFleetServer> {
  const server = new Server({
    // A dead peer is noticed within 15 s even when no data flows.
    'grpc.keepalive_time_ms': 10_000,
    'grpc.keepalive_timeout_ms': 5_000,
    'grpc.max_receive_message_length': 4 * 1024 * 1024,
  });
  server.addService(FleetServiceService, service);
  const { ca, cert, key } = options.tls;
  const credentials = ServerCredentials.createSsl(ca, [{ cert_chain: cert, private_key: key }], true);
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync(`${options.host}:${options.port}`, credentials, (err, bound) =>
      err ? reject(err) : resolve(bound),
    );
  });
  return {
    port,
    close: async () => {
      const closed = new Promise<void>((resolve) => server.tryShutdown(() => resolve()));
      try {
        await withDeadline('closing the link server', CLOSE_GRACE_MS, closed);
      } catch (err) {
        if (!(err instanceof DeadlineExceeded)) throw err;
        server.forceShutdown();
      }
    },
  };
}
