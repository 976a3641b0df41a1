import type { Server, ServerCredentials } from '@grpc/grpc-js';
import { DeadlineExceeded, withDeadline } from '@lambda-fleet/common/deadline';

export interface RunningGrpcServer {
  readonly port: number;
  /** Resolves when the port is closed. Bidirectional streams never end by themselves, so it forces them. */
  close(): Promise<void>;
}

const CLOSE_GRACE_MS = 500;

/** @param at `port` 0 takes any free port. Rejects when the port is taken. */
export async function listen(
  server: Server,
  at: { readonly host: string; readonly port: number },
  credentials: ServerCredentials,
): Promise<RunningGrpcServer> {
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync(`${at.host}:${at.port}`, credentials, (err, bound) => (err ? reject(err) : resolve(bound)));
  });
  return {
    port,
    close: async () => {
      const closed = new Promise<void>((resolve) => server.tryShutdown(() => resolve()));
      try {
        await withDeadline('closing a gRPC server', CLOSE_GRACE_MS, closed);
      } catch (err) {
        if (!(err instanceof DeadlineExceeded)) throw err;
        server.forceShutdown();
      }
    },
  };
}
