import type { ServerDuplexStream, ServerReadableStream, ServerUnaryCall, ServerWritableStream } from '@grpc/grpc-js';

type Call =
  | ServerDuplexStream<unknown, unknown>
  | ServerReadableStream<unknown, unknown>
  | ServerUnaryCall<unknown, unknown>
  | ServerWritableStream<unknown, unknown>;

/**
 * The node's id: the common name of the certificate that the TLS handshake verified
 * against the fleet's CA, and nothing that the peer says in a message.
 */
export function peerNodeId(call: Call): string {
  const name: unknown = call.getAuthContext().sslPeerCertificate?.subject.CN;
  if (typeof name !== 'string' || !NODE_ID.test(name)) throw new Error('the certificate names no node');
  return name;
}

const NODE_ID = /^[a-z0-9][a-z0-9.-]{0,62}$/;
