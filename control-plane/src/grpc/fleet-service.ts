import {
  type Metadata,
  type ServerDuplexStream,
  type ServerUnaryCall,
  type ServerWritableStream,
  type sendUnaryData,
  status,
} from '@grpc/grpc-js';
import type { NodeCertificate } from '@lambda-fleet/common/certificates/node-certificate';
import { FleetError } from '@lambda-fleet/common/errors';
import { CHUNK_BYTES_MAX } from '@lambda-fleet/common/limits';
import type { Logger } from '@lambda-fleet/common/logger';
import type {
  AgentFrame,
  ArtifactChunk,
  Certificate,
  ControlFrame,
  FetchArtifactRequest,
  FleetServiceServer,
  Hello,
  RenewRequest,
} from '@lambda-fleet/proto';
import type { AttemptGrants } from '../nodes/attempt-grants.js';
import type { NodeRegistry } from '../nodes/node-registry.js';
import { NodeSession, type SessionEvents } from '../nodes/node-session.js';
import { protocolFor, type Replica, sendWelcome } from '../nodes/welcome.js';
import { callError, isCallError } from './call-error.js';
import { certificateError } from './enrollment-server.js';
import { hasLayers, type Layers, putLayer } from './layer-calls.js';
import { peerNode, REMOVED, type RevokedPeers } from './peer-identity.js';

/** How long a stream may stay silent before its Hello. */
const HELLO_DEADLINE_MS = 10_000;

export interface FleetServiceOptions {
  readonly replica: Replica;
  readonly registry: NodeRegistry;
  readonly grants: AttemptGrants;
  readonly events: SessionEvents;
  /** Streams an artifact in chunks of at most 64 KiB. */
  readonly readArtifact: (projectId: string, sha256: string) => AsyncIterable<Uint8Array>;
  readonly layers: Layers;
  /** Asked at every call. */
  readonly revoked: RevokedPeers;
  /** Issues the next certificate of a node. Undefined where the key of the fleet's authority is not. */
  readonly renew: ((node: NodeCertificate, request: Uint8Array) => Promise<Certificate>) | undefined;
  /** Why a node may not join, or undefined. */
  readonly refuseHello: (hello: Hello) => string | undefined;
  /** A node said Hello and was welcomed. */
  readonly onWelcomed: (session: NodeSession) => void;
  readonly log: Logger;
}

/** The gRPC side of the link: turns streams into sessions and back. */
export function createFleetService(options: FleetServiceOptions): FleetServiceServer {
  return {
    connect: (call) => connect(call, options),
    transfer: (call) => transfer(call, options),
    fetchArtifact: (call) => void fetchArtifact(call, options),
    hasLayers: (call, answer) => void hasLayers(call, answer, options),
    putLayer: (call, answer) => void putLayer(call, answer, options),
    renew: (call, answer) => void renew(call, answer, options),
  };
}

type Stream = ServerDuplexStream<AgentFrame, ControlFrame>;

function connect(call: Stream, options: FleetServiceOptions): void {
  const { registry, events, revoked, log } = options;
  const node = identify(call, revoked);
  if (node === undefined) return;
  const { nodeId } = node;
  const linked = call.metadata.get('lambda-linked');
  let session: NodeSession | undefined;
  let over = false;
  const helloTimer = setTimeout(() => fail(call, status.DEADLINE_EXCEEDED, 'no Hello'), HELLO_DEADLINE_MS);
  const unwatch = revoked.watch(node, () => {
    log.warn({ node: nodeId, session: session?.id }, 'node_cut_off');
    // Ends the session too, with this reason.
    fail(call, status.UNAUTHENTICATED, REMOVED);
  });

  const greet = (hello: Hello): void => {
    clearTimeout(helloTimer);
    if (protocolFor(hello) === undefined) {
      fail(call, status.FAILED_PRECONDITION, 'this control plane speaks no protocol of this agent');
      return;
    }
    // By another address of this replica. Taking it would end the session that the agent has.
    if (linked.includes(options.replica.id) && registry.session(nodeId)?.bootId === hello.bootId) {
      fail(call, status.ALREADY_EXISTS, 'this agent is linked to this replica already');
      return;
    }
    const refusal = options.refuseHello(hello);
    if (refusal !== undefined) {
      fail(call, status.FAILED_PRECONDITION, refusal);
      return;
    }
    const created = new NodeSession(
      nodeId,
      hello,
      { write: (messages) => call.write({ messages }), end: () => call.end() },
      events,
      log,
      options.grants,
    );
    session = created;
    sendWelcome(created, options.replica);
    registry.add(created);
    options.onWelcomed(created);
    log.info({ node: nodeId, session: created.id, agent: hello.agentVersion }, 'node_connected');
  };

  call.on('data', (frame: AgentFrame) => {
    for (const message of frame.messages) {
      // A stream that was refused must not become a session by what still comes.
      if (over) return;
      if (session !== undefined) session.receive(message);
      else if (message.message?.$case === 'hello') greet(message.message.value);
      else fail(call, status.FAILED_PRECONDITION, 'the first message must be Hello');
    }
  });
  call.on('drain', () => session?.drained());
  onEnded(call, (reason) => {
    over = true;
    clearTimeout(helloTimer);
    unwatch();
    session?.close(reason);
    call.end();
  });
}

/** The bulk stream of a session that already exists; its end is the session's end. */
function transfer(call: Stream, { registry, events, revoked, log }: FleetServiceOptions): void {
  const node = identify(call, revoked);
  if (node === undefined) return;
  const session = registry.session(node.nodeId);
  const claimed = firstValue(call.metadata, 'lambda-session');
  if (session === undefined || session.id !== claimed) {
    fail(call, status.FAILED_PRECONDITION, 'no such session of this node');
    return;
  }
  const owner = session;
  owner.payloads.attach(call);
  // Large payloads may have waited for this stream.
  events.onCapacity(owner, owner.capacity);
  call.on('data', (frame: AgentFrame) => {
    for (const { message } of frame.messages) {
      if (message?.$case === 'responseChunk') owner.receiveChunk(message.value);
      else owner.close('only chunks travel on the Transfer stream');
    }
  });
  onEnded(call, (reason) => {
    log.debug({ node: owner.nodeId, reason }, 'transfer_ended');
    owner.close(`transfer stream: ${reason}`);
    call.end();
  });
}

async function fetchArtifact(
  call: ServerWritableStream<FetchArtifactRequest, ArtifactChunk>,
  options: FleetServiceOptions,
): Promise<void> {
  const { sha256 } = call.request;
  try {
    const node = peerNode(call, options.revoked);
    const projectId = options.registry.session(node.nodeId)?.projectOfArtifact(sha256);
    // The same answer whether it exists or not: a node learns only of what it was told to run.
    if (projectId === undefined) throw callError(status.NOT_FOUND, 'no such artifact for this node');
    for await (const chunk of options.readArtifact(projectId, sha256)) {
      if (options.revoked.isRevoked(node)) throw callError(status.UNAUTHENTICATED, REMOVED);
      for (let at = 0; at < chunk.length; at += CHUNK_BYTES_MAX) {
        if (call.cancelled) return;
        const more = call.write({ data: Buffer.from(chunk.subarray(at, at + CHUNK_BYTES_MAX)) });
        if (!more) await drained(call);
      }
    }
    call.end();
  } catch (err) {
    if (isCallError(err)) {
      call.emit('error', err);
      return;
    }
    options.log.error({ err, sha256 }, 'artifact_read_failed');
    const code = err instanceof FleetError && err.retryable ? status.UNAVAILABLE : status.INTERNAL;
    call.emit('error', callError(code, 'the artifact could not be read'));
  }
}

/** Who the node is, is in its certificate. What it asks for is a newer one, for a key that it shows to have. */
async function renew(
  call: ServerUnaryCall<RenewRequest, Certificate>,
  answer: sendUnaryData<Certificate>,
  options: FleetServiceOptions,
): Promise<void> {
  try {
    const node = peerNode(call, options.revoked);
    if (options.renew === undefined) {
      throw callError(status.UNIMPLEMENTED, 'this control plane issues no certificates; ask another one');
    }
    answer(null, await options.renew(node, call.request.certificateRequest));
  } catch (err) {
    answer(isCallError(err) ? err : certificateError(err, options.log));
  }
}

/** The node that opened the stream; undefined when the stream was refused. */
function identify(call: Stream, revoked: RevokedPeers): NodeCertificate | undefined {
  try {
    return peerNode(call, revoked);
  } catch (err) {
    call.emit('error', err);
    return undefined;
  }
}

/** Resolves on drain, and also when the peer goes away and no drain will ever come. */
function drained(call: ServerWritableStream<FetchArtifactRequest, ArtifactChunk>): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      call.off('drain', done).off('cancelled', done).off('close', done);
      resolve();
    };
    call.on('drain', done).on('cancelled', done).on('close', done);
  });
}

/** A stream may end, be cancelled or fail, in any combination: the listener hears of the first only. */
function onEnded(call: Stream, listener: (reason: string) => void): void {
  let ended = false;
  const once = (reason: string): void => {
    if (ended) return;
    ended = true;
    listener(reason);
  };
  call.on('end', () => once('the agent ended the stream'));
  call.on('cancelled', () => once('the connection broke'));
  call.on('error', (err) => once(err.message));
}

/** grpc-js sends a status for an emitted error; `destroy` would end the stream without one and leave the peer waiting. */
function fail(call: Stream, code: status, details: string): void {
  call.emit('error', callError(code, details));
}

function firstValue(metadata: Metadata, key: string): string | undefined {
  const value = metadata.get(key)[0];
  return typeof value === 'string' ? value : undefined;
}
