import {
  type ServerDuplexStream,
  type ServerReadableStream,
  type ServerUnaryCall,
  type ServerWritableStream,
  status,
} from '@grpc/grpc-js';
import {
  CLIENT_AUTH,
  certificateTimes,
  NODE_ID,
  type NodeCertificate,
} from '@lambda-fleet/common/certificates/node-certificate';
import { callError } from './call-error.js';

type Call =
  | ServerDuplexStream<unknown, unknown>
  | ServerReadableStream<unknown, unknown>
  | ServerUnaryCall<unknown, unknown>
  | ServerWritableStream<unknown, unknown>;

/** Which certificates count no more. */
export interface RevokedPeers {
  isRevoked(peer: NodeCertificate): boolean;
  /** Calls `cut` once the peer is revoked, unless the returned function was called before. */
  watch(peer: NodeCertificate, cut: () => void): () => void;
}

export const REMOVED =
  'this node was removed from the fleet; to let it in again, start its agent with a new token of `lambda node join-token`';

/**
 * The node: the common name of the client certificate that the TLS handshake verified against the fleet's CA, and nothing
 * that the peer says in a message.
 *
 * @throws CallError `UNAUTHENTICATED`: the certificate names no node, or that node was removed since it was issued
 */
export function peerNode(call: Call, revoked: RevokedPeers): NodeCertificate {
  const certificate = call.getAuthContext().sslPeerCertificate;
  const name: unknown = certificate?.subject.CN;
  // The control plane's own certificate is of the same CA: it may serve, and nothing else.
  const isClient = certificate?.ext_key_usage?.includes(CLIENT_AUTH) === true;
  if (certificate === undefined || !isClient || typeof name !== 'string' || !NODE_ID.test(name)) {
    throw callError(status.UNAUTHENTICATED, 'the certificate names no node');
  }
  const { valid_from: validFrom, valid_to: validTo, subjectaltname: subjectAltName } = certificate;
  const times = certificateTimes({ validFrom, validTo, subjectAltName });
  const node = { nodeId: name, ...times };
  if (revoked.isRevoked(node)) throw callError(status.UNAUTHENTICATED, REMOVED);
  return node;
}
