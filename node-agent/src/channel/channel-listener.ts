import { chmod, chown } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';

/** Longest path of a unix socket; the kernel's field has 108 bytes, the last one is NUL. */
const SOCKET_PATH_BYTES_MAX = 107;

export interface ChannelListener {
  /** The one connection that is let in; rejects when the listener is closed before it came. */
  readonly connected: Promise<Socket>;
  close(): void;
}

export interface ListenOptions {
  readonly path: string;
  /** Owner that may connect; undefined lets everyone who reaches the path (its folder is listed to nobody). */
  readonly uid: number | undefined;
}

/**
 * Waits on a unix socket for the runtime of one sandbox. This function is the only place that knows how a runtime
 * reaches the agent: where sockets cannot cross a mount (Docker Desktop), another one with the same result takes its place.
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
  const connected = new Promise<Socket>((resolve, reject) => {
    refuse = reject;
    let taken = false;
    server.on('connection', (socket) => {
      if (taken) {
        // Was already waiting in the backlog when the first one was taken.
        socket.destroy();
        return;
      }
      taken = true;
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
