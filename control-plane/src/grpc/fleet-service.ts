import { type Metadata, type ServerDuplexStream, type ServerWritableStream, status } from '@grpc/grpc-js';
import { errorText, FleetError } from '@lambda-fleet/common/errors';
import { CHUNK_BYTES_MAX } from '@lambda-fleet/common/limits';
import type { Logger } from '@lambda-fleet/common/logger';
import type {
  AgentFrame,
  ArtifactChunk,
  ControlFrame,
  FetchArtifactRequest,
  FleetServiceServer,
  Hello,
} from '@lambda-fleet/proto';
import type { NodeRegistry } from '../nodes/node-registry.js';
import { HEARTBEAT_MS, NodeSession, type SessionEvents } from '../nodes/node-session.js';
import { hasLayers, type Layers, putLayer } from './layer-calls.js';
import { peerNodeId } from './peer-identity.js';

/** The only protocol version there is. */
const PROTOCOL = 1;

/** How long a stream may stay silent before its Hello. */
const HELLO_DEADLINE_MS = 10_000;

export interface FleetServiceOptions {
  readonly registry: NodeRegistry;
  readonly events: SessionEvents;
  /** Streams an artifact in chunks of at most 64 KiB. */
  readonly readArtifact: (projectId: string, sha256: string) => AsyncIterable<Uint8Array>;
  readonly layers: Layers;
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
    renew: (_call, answer) => answer(statusError(status.UNIMPLEMENTED, 'this control plane issues no certificates')),
  };
}

type Stream = ServerDuplexStream<AgentFrame, ControlFrame>;

function connect(call: Stream, options: FleetServiceOptions): void {
  const { registry, events, log } = options;
  let nodeId: string;
  try {
    nodeId = peerNodeId(call);
  } catch (err) {
    fail(call, status.UNAUTHENTICATED, errorText(err));
    return;
  }
  let session: NodeSession | undefined;
  const helloTimer = setTimeout(() => fail(call, status.DEADLINE_EXCEEDED, 'no Hello'), HELLO_DEADLINE_MS);

  const greet = (hello: Hello): void => {
    clearTimeout(helloTimer);
    if (hello.protocolMin > PROTOCOL || hello.protocolMax < PROTOCOL) {
      fail(call, status.FAILED_PRECONDITION, `this control plane speaks protocol ${PROTOCOL}`);
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
    );
    session = created;
    const welcome = { protocol: PROTOCOL, sessionId: created.id, heartbeatMs: HEARTBEAT_MS, peers: [] };
    created.send({ message: { $case: 'welcome', value: welcome } }, 64);
    registry.add(created);
    options.onWelcomed(created);
    log.info({ node: nodeId, session: created.id, agent: hello.agentVersion }, 'node_connected');
  };

  call.on('data', (frame: AgentFrame) => {
    for (const message of frame.messages) {
      if (session !== undefined) session.receive(message);
      else if (message.message?.$case === 'hello') greet(message.message.value);
      else fail(call, status.FAILED_PRECONDITION, 'the first message must be Hello');
    }
  });
  call.on('drain', () => session?.drained());
  onEnded(call, (reason) => {
    clearTimeout(helloTimer);
    session?.close(reason);
    call.end();
  });
}

/** The bulk stream of a session that already exists; its end is the session's end. */
function transfer(call: Stream, { registry, events, log }: FleetServiceOptions): void {
  let session: NodeSession | undefined;
  try {
    session = registry.session(peerNodeId(call));
  } catch (err) {
    fail(call, status.UNAUTHENTICATED, errorText(err));
    return;
  }
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
    const session = options.registry.session(peerNodeId(call));
    const projectId = session?.projectOfArtifact(sha256);
    if (projectId === undefined) {
      // The same answer whether it exists or not: a node learns only of what it was told to run.
      call.emit('error', statusError(status.NOT_FOUND, 'no such artifact for this node'));
      return;
    }
    for await (const chunk of options.readArtifact(projectId, sha256)) {
      for (let at = 0; at < chunk.length; at += CHUNK_BYTES_MAX) {
        if (call.cancelled) return;
        const more = call.write({ data: Buffer.from(chunk.subarray(at, at + CHUNK_BYTES_MAX)) });
        if (!more) await drained(call);
      }
    }
    call.end();
  } catch (err) {
    options.log.error({ err, sha256 }, 'artifact_read_failed');
    const code = err instanceof FleetError && err.retryable ? status.UNAVAILABLE : status.INTERNAL;
    call.emit('error', statusError(code, 'the artifact could not be read'));
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
  call.emit('error', statusError(code, details));
}

function statusError(code: status, details: string) {
  return Object.assign(new Error(details), { code, details });
}

function firstValue(metadata: Metadata, key: string): string | undefined {
  const value = metadata.get(key)[0];
  return typeof value === 'string' ? value : undefined;
}
