import { bigint, boolean, index, integer, jsonb, pgTable, text, uuid } from 'drizzle-orm/pg-core';
import { at, bytea, now, projectId } from './table-columns.js';

/** One thing that an agent tried before it offered an isolation. */
export interface SelfTestCheck {
  /** `runc`, `gvisor`, `none`. */
  readonly isolation: string;
  /** `start`, `no-network`, `memory-limit`… */
  readonly check: string;
  readonly passed: boolean;
  /** What was seen; why it failed. */
  readonly detail: string;
  readonly ms: number;
}

/** How a drain has ended so far: counted by the agent, read from its last report. */
export interface DrainResult {
  readonly deadlineReached: boolean;
  /** Invocations that the deadline ended. */
  readonly killed: number;
  /** Async invocations that went back to the queue. */
  readonly requeued: number;
}

/** A machine of the fleet: what its agent said of itself last, and what operators decided about it. */
export const nodes = pgTable('nodes', {
  /** The subject of the node's certificate. */
  id: text('id').primaryKey(),
  projectId: projectId(),
  /** False when an operator took it out of service, by a cordon or a drain. No agent can change it. */
  eligible: boolean('eligible').notNull().default(true),
  labels: jsonb('labels').$type<Record<string, string>>().notNull(),
  isolation: jsonb('isolation').$type<string[]>().notNull(),
  runtimes: jsonb('runtimes').$type<{ name: string; digest: string }[]>().notNull(),
  architecture: text('architecture').notNull(),
  agentVersion: text('agent_version').notNull(),
  /** Null from agents that report none. */
  selfTest: jsonb('self_test').$type<SelfTestCheck[]>(),
  /** Certificates that were issued before it are refused. */
  revokedAt: at('revoked_at'),
  /** The newest certificate that this fleet issued for it. Null for one that was not issued here. */
  certificateExpiresAt: at('certificate_expires_at'),
  /** Rises by one with every lease. The lease is over when `lease_expires_at` has passed on the database's clock. */
  leaseEpoch: integer('lease_epoch').notNull().default(0),
  /** The start of the agent that holds the lease. */
  leaseBootId: text('lease_boot_id'),
  leaseExpiresAt: at('lease_expires_at'),
  /** When the lease was found to be over and what ran there was given up. Null while it holds one. */
  lostAt: at('lost_at'),
  /** The newest drain; null when there never was one. */
  drainId: uuid('drain_id'),
  drainState: text('drain_state', { enum: ['draining', 'complete', 'lost', 'cancelled'] }),
  drainStartedAt: at('drain_started_at'),
  /** Null has no deadline. */
  drainDeadlineAt: at('drain_deadline_at'),
  drainEndedAt: at('drain_ended_at'),
  drainMessage: text('drain_message'),
  drainResult: jsonb('drain_result').$type<DrainResult>(),
  firstSeenAt: at('first_seen_at').notNull().default(now),
  lastSeenAt: at('last_seen_at').notNull().default(now),
});

/** What happened to a node, newest last. */
export const nodeEvents = pgTable(
  'node_events',
  {
    id: bigint('id', { mode: 'number' }).primaryKey().generatedAlwaysAsIdentity(),
    projectId: projectId(),
    nodeId: text('node_id')
      .notNull()
      .references(() => nodes.id, { onDelete: 'cascade' }),
    at: at('at').notNull().default(now),
    /** `joined`, `connected`, `disconnected`, `cordoned`, `uncordoned`, `drain-started`, `drain-completed`, `lost`… */
    kind: text('kind').notNull(),
    detail: jsonb('detail').$type<Record<string, unknown>>().notNull(),
  },
  (t) => [index('node_events_node').on(t.nodeId, t.id)],
);

/** What lets a machine join the fleet, once. */
export const joinTokens = pgTable('join_tokens', {
  /** Public: it finds the row. */
  id: text('id').primaryKey(),
  projectId: projectId(),
  /** HMAC-SHA-256 of the whole token under the server's pepper. */
  hash: bytea('hash').notNull(),
  /** The only id that may be taken with it; null is any that no node has. */
  nodeId: text('node_id'),
  createdAt: at('created_at').notNull().default(now),
  expiresAt: at('expires_at').notNull(),
  usedAt: at('used_at'),
  usedBy: text('used_by'),
});
