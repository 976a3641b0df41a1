import type { ControlMessage, Hello } from '@lambda-fleet/proto';
import { HEARTBEAT_MS, type NodeSession } from './node-session.js';

/** 2 came with several replicas and leases. */
const PROTOCOL = { min: 1, max: 2 };

/** This process, as agents know it. */
export interface Replica {
  readonly id: string;
  /** `host:port` of every replica that is known, this one included. */
  readonly peers: () => readonly string[];
}

/** What is spoken with this agent; undefined when there is nothing that both speak. */
export function protocolFor({ protocolMin, protocolMax }: Hello): number | undefined {
  const protocol = Math.min(PROTOCOL.max, protocolMax);
  return protocol < Math.max(PROTOCOL.min, protocolMin) ? undefined : protocol;
}

/** Whether the agent knows what leases are, and that it may be welcomed more than once. */
export function knowsLeases({ hello }: NodeSession): boolean {
  return (protocolFor(hello) ?? 0) >= 2;
}

export function sendWelcome(session: NodeSession, { id, peers }: Replica): void {
  const value = {
    protocol: protocolFor(session.hello) ?? PROTOCOL.min,
    sessionId: session.id,
    heartbeatMs: HEARTBEAT_MS,
    peers: [...peers()],
    replicaId: id,
  };
  const message: ControlMessage = { message: { $case: 'welcome', value } };
  session.send(message, 128 + 64 * value.peers.length);
}
