import type { ServerDuplexStream, ServerWritableStream } from '@grpc/grpc-js';

/**
 * The node's id: the common name of the certificate that the TLS handshake verified
 * against the fleet's CA, and nothing that the peer says in a message.
 */
export function peerNodeId(
  call: ServerDuplexStream<unknown, unknown> | ServerWritableStream<unknown, unknown>,
): string {
  const name: unknown = call.getAuthContext().sslPeerCertificate?.subject.CN;
  if (typeof name !== 'string' || !NODE_ID.test(name)) throw new Error('the certificate names no node');
  return name;
}

const NODE_ID = /^[a-z0-9][a-z0-9.-]{0,62}$/;
