import { createConnection, Socket } from 'node:net';

/** The two ends of a channel; one and the same where the channel is a unix socket. */
export interface ChannelStreams {
  readonly incoming: Socket;
  readonly outgoing: Socket;
}

/** `LAMBDA_CHANNEL` as two descriptors: where frames arrive, and where they leave. */
const DESCRIPTORS = /^fd:(\d{1,9}),(\d{1,9})$/;

/**
 * Opens the channel that `LAMBDA_CHANNEL` names: `fd:<read>,<write>`, or the path of a unix socket. Throws when the
 * descriptors cannot be used; a socket that cannot be connected is an `error` event of `incoming`.
 *
 * @param opened called once frames can be sent.
 */
export function openChannel(channel: string, opened: (streams: ChannelStreams) => void): ChannelStreams {
  const [, read, write] = DESCRIPTORS.exec(channel) ?? [];
  if (read === undefined || write === undefined) {
    const socket = createConnection(channel);
    const streams = { incoming: socket, outgoing: socket };
    socket.once('connect', () => opened(streams));
    return streams;
  }
  const streams = {
    incoming: new Socket({ fd: Number(read), readable: true, writable: false }),
    outgoing: new Socket({ fd: Number(write), readable: false, writable: true }),
  };
  setImmediate(() => opened(streams));
  return streams;
}
