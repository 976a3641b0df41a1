import { connect, type Socket } from 'node:net';
import postgres from 'postgres';

/** Columns in camel case, timestamps as Date, bigint as number. */
export type Sql = postgres.Sql<{ bigint: number }>;

type DriverOptions = postgres.Options<{ bigint: postgres.PostgresType<number> }>;

/** The sockets of one driver client, so that silent ones can be cut. */
export class SocketTracker {
  readonly #sockets = new Map<Socket, number>();

  open(socket: Socket): Socket {
    this.#sockets.set(socket, performance.now());
    socket.on('data', () => this.#sockets.set(socket, performance.now()));
    socket.once('close', () => this.#sockets.delete(socket));
    return socket;
  }

  /** Cuts every connection that has read nothing for `ms`. Idle ones among them cost a reconnect and nothing else. */
  cutSilent(ms: number): void {
    const since = performance.now() - ms;
    for (const [socket, readAt] of this.#sockets) if (readAt <= since) socket.destroy();
  }
}

/**
 * A driver client for a URL. `?host=/folder` (as libpq has it) names the folder of a unix socket.
 *
 * The driver is given sockets of our making: it has no time limit of its own,
 * and a server that stops answering is only got rid of by cutting the socket.
 */
export function driverClient(url: string, tracker: SocketTracker, options: DriverOptions): Sql {
  const parsed = new URL(url);
  const socketDir = parsed.searchParams.get('host');
  // The driver would send what it does not know to the server as a setting.
  parsed.searchParams.delete('host');
  const socket = (target: { path: string | false; host: string[]; port: number[] }): Socket =>
    tracker.open(
      target.path
        ? connect(target.path)
        : connect({ host: target.host[0] ?? 'localhost', port: target.port[0] ?? 5432 }),
    );
  // `socket` is missing from the driver's types.
  const withSocket: DriverOptions & { socket: typeof socket } = {
    ...(socketDir === null ? {} : { host: socketDir }),
    // Ids of log lines and sizes stay far below 2^53.
    types: { bigint: { to: 20, from: [20], parse: Number, serialize: String } },
    transform: { column: { from: postgres.toCamel } },
    fetch_types: false,
    // Seconds. The driver's own grows to 20, too long for a server that restarts in one.
    backoff: (retries: number) => Math.min(0.05 * 2 ** retries, 1) * (0.5 + Math.random() / 2),
    connect_timeout: 5,
    // "Relation exists, skipping" and the like are for people at a prompt.
    onnotice: () => undefined,
    ...options,
    socket,
  };
  return postgres(parsed.toString(), withSocket);
}
