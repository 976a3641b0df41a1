import { Server, ServerCredentials } from '@grpc/grpc-js';
import { type FleetServiceServer, FleetServiceService } from '@lambda-fleet/proto';
import { listen, type RunningGrpcServer } from './listen.js';

export interface FleetServerOptions {
  readonly host: string;
  /** 0 takes any free port. */
  readonly port: number;
  /** PEM. Agents must present a certificate that this CA signed. */
  readonly tls: { readonly ca: Buffer; readonly cert: Buffer; readonly key: Buffer };
}

export type RunningFleetServer = RunningGrpcServer;

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
  return await listen(server, options, ServerCredentials.createSsl(ca, [{ cert_chain: cert, private_key: key }], true));
}
