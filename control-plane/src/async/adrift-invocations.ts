import { errorText } from '@lambda-fleet/common/errors';
import type { Logger } from '@lambda-fleet/common/logger';
import type { InvocationRef } from '@lambda-fleet/proto';
import type { Database } from '../db/database.js';
import type { AttemptEnd } from './async-invocation.js';
import type { AttemptSettler } from './attempt-settler.js';
import { findAdrift, postpone, type RunningInvocation } from './find-running.js';
import { nothingMade } from './run-attempt.js';

/** A node's agent, as it is connected now. */
export interface ConnectedAgent {
  /** Changes with every start of the agent. */
  readonly bootId: string;
  /** How long this connection has lasted, milliseconds. */
  readonly ageMs: number;
  /** Whether it had this attempt when it connected: running, or its result. */
  hadAtConnect(ref: InvocationRef): boolean;
  cancel(ref: InvocationRef): void;
}

export interface AdriftInvocationsOptions {
  readonly database: Database;
  readonly settler: AttemptSettler;
  readonly agent: (nodeId: string) => ConnectedAgent | undefined;
  /** Those that this process works on after all. */
  readonly holds: (id: string) => boolean;
  readonly log: Logger;
}

const LOOK_MS = 2_000;
/** Rows of one statement: each may hold a megabyte. */
const LOOK_MAX = 30;

/** Until one that may be running is looked at again. */
const POSTPONE_MS = 2_000;

/**
 * A connection is younger than an attempt when it is so by more than this: an attempt is sent within moments of being written
 * down, and the two clocks are read one after the other.
 */
const MARGIN_MS = 1_000;

/**
 * Invocations that are marked as running and that no living process works on: a control plane died while they ran, or the
 * link to their node broke.
 *
 * Such an attempt may be running still, and then its agent says how it ended. It is over
 * - when nothing says that it was sent to a node: that is written before it is sent;
 * - when its agent has connected since, and neither has it nor has its result: it never arrived;
 * - when its agent was started anew: it went down with the old one, as a loss;
 * - when its node's lease is over, and the node was declared lost: its agent has ended what ran there, as a loss;
 * - when its budgets have passed: the node is gone, as a loss.
 */
export class AdriftInvocations {
  readonly #timer: NodeJS.Timeout;
  #looking = false;

  constructor(private readonly options: AdriftInvocationsOptions) {
    this.#timer = setInterval(() => void this.look(), LOOK_MS).unref();
  }

  close(): void {
    clearInterval(this.#timer);
  }

  /** Settles what can be settled now. Never rejects; what goes wrong is found again by the next look. */
  async look(): Promise<void> {
    if (this.#looking) return;
    this.#looking = true;
    try {
      while ((await this.#lookAtSome()) === LOOK_MAX);
    } catch (err) {
      this.options.log.warn({ reason: errorText(err) }, 'async_invocations_adrift_not_settled');
    } finally {
      this.#looking = false;
    }
  }

  /** How many were settled or put off. */
  async #lookAtSome(): Promise<number> {
    const rows = await findAdrift(this.options.database, LOOK_MAX);
    const left: string[] = [];
    const settling: Promise<unknown>[] = [];
    for (const row of rows) {
      if (this.options.holds(row.id)) continue;
      const end = endOf(row, row.nodeId === null ? undefined : this.options.agent(row.nodeId));
      if (end === undefined) {
        left.push(row.id);
        this.#cancelWanted(row);
        continue;
      }
      const made = { ...nothingMade(), nodeId: row.nodeId ?? undefined };
      settling.push(this.options.settler.settle(row, end, made, { cancelled: row.cancelled, adrift: true }));
    }
    await Promise.all([...settling, postpone(this.options.database, left, POSTPONE_MS)]);
    return settling.length + left.length;
  }

  #cancelWanted({ id, epoch, nodeId, cancelled }: RunningInvocation): void {
    if (cancelled && nodeId !== null) this.options.agent(nodeId)?.cancel({ invocationId: id, epoch });
  }
}

/** Undefined while it may be running. */
function endOf(row: RunningInvocation, agent: ConnectedAgent | undefined): AttemptEnd | undefined {
  const { nodeId, bootId, epoch, begunMs, nodeLost, overdue } = row;
  const over = { over: true, error: null, receipt: null } as const;
  if (nodeId === null || begunMs === null) {
    const reason = 'The control plane that had taken it ended before it sent it to a node.';
    return { ...over, outcome: 'not_started', lost: false, reason };
  }
  if (agent !== undefined && agent.bootId !== bootId) {
    const reason = `The agent of ${nodeId} was started again while it ran there.`;
    return { ...over, outcome: 'outcome_unknown', lost: true, reason };
  }
  if (agent !== undefined && agent.ageMs < begunMs - MARGIN_MS) {
    if (agent.hadAtConnect({ invocationId: row.id, epoch })) return undefined;
    return { ...over, outcome: 'not_started', lost: false, reason: `It did not reach ${nodeId}.` };
  }
  if (nodeLost) {
    return { ...over, outcome: 'outcome_unknown', lost: true, reason: `The node ${nodeId}, where it ran, was lost.` };
  }
  if (!overdue) return undefined;
  const reason = `The node ${nodeId}, where it ran, has not said how it ended.`;
  return { ...over, outcome: 'outcome_unknown', lost: true, reason };
}
