import { chmod, chown } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';

/** Longest path of a unix socket; the kernel's field has 108 bytes, the last one is NUL. */
const SOCKET_PATH_BYTES_MAX = 107;

export interface ChannelListener {
  /** The one connection that is let in; rejects when the listener is closed before it came. */
  readonly connected: Promise<Socket>;
  /** Ends the listening, or the connection. */
  close(): void;
}

export interface ListenOptions {
  readonly path: string;
  /** Owner that may connect; undefined lets everyone who reaches the path (its folder is listed to nobody). */
  readonly uid: number | undefined;
}

/** The socket's name in a sandbox's channel directory. */
export const SOCKET_NAME = 'agent.sock';

/**
 * Waits on a unix socket for the runtime of one sandbox.
 *
 * The first connection ends the listening, because a runtime connects before any user code exists: whatever knocks
 * later is user code, and finds no socket.
 */
export async function listenForRuntime(options: ListenOptions): Promise<ChannelListener> {
  if (Buffer.byteLength(options.path) > SOCKET_PATH_BYTES_MAX) {
    throw new Error(`the socket path ${options.path} is longer than ${SOCKET_PATH_BYTES_MAX} bytes`);
  }
  const server = createServer();
  let refuse: (reason: Error) => void = () => {};
  let connection: Socket | undefined;
  const connected = new Promise<Socket>((resolve, reject) => {
    refuse = reject;
    server.on('connection', (socket) => {
      if (connection !== undefined) {
        // Was already waiting in the backlog when the first one was taken.
        socket.destroy();
        return;
      }
      connection = socket;
      // Always followed by 'close', which is what tells; nobody may be interested in the connection any more.
      socket.on('error', () => {});
      server.close();
      resolve(socket);
    });
    server.on('error', reject);
  });
  // Whoever waits sees the rejection; when nobody waits any more it means nothing.
  connected.catch(() => {});
  await listen(server, options.path);
  if (options.uid === undefined) {
    await chmod(options.path, 0o666);
  } else {
    await chown(options.path, options.uid, options.uid);
    await chmod(options.path, 0o600);
  }
  return {
    connected,
    close: () => {
      server.close();
      connection?.destroy();
      refuse(new Error('the channel was closed before the runtime connected'));
    },
  };
}

function listen(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(path, () => {
      server.off('error', reject);
      resolve();
    });
  });
}
