import { errorText } from '@lambda-fleet/common/errors';
import type { Logger } from '@lambda-fleet/common/logger';
import type { DrainProgress } from '@lambda-fleet/proto';
import { areUuids } from './agent-claims.js';
import type { DrainReport, DrainTable } from './drain-table.js';
import type { NodeDecisions } from './node-decisions.js';
import type { NodeSession } from './node-session.js';

export interface DrainReportsOptions {
  readonly table: DrainTable;
  readonly decisions: Pick<NodeDecisions, 'of' | 'look'>;
  readonly log: Logger;
}

/** No node holds more, however large: an agent that says so lies. */
const COUNT_MAX = 1_000_000;
/** A year. */
const IN_FLIGHT_MS_MAX = 366 * 24 * 3_600_000;

/** Between two writes of progress, and when something decisive has changed. */
const WRITE_EVERY_MS = 3_000;
const WRITE_DECISIVE_EVERY_MS = 200;

/** Between two looks because of one agent: an honest one repeats itself every 5 s, and another one must not keep the database busy. */
const DOUBT_EVERY_MS = 1_000;

interface Written {
  readonly at: number;
  readonly report: DrainReport;
}

/**
 * What draining agents report. Their word is what completes a drain, and it counts only under the id of the drain that their node
 * is in: whatever else they say changes nothing, and they are told that that drain is over.
 */
export class DrainReports {
  readonly #written = new WeakMap<NodeSession, Written>();
  readonly #completing = new WeakSet<NodeSession>();
  readonly #doubtedAt = new WeakMap<NodeSession, number>();

  constructor(private readonly options: DrainReportsOptions) {}

  /** Never throws or rejects: what could not be written is reported again. */
  async receive(session: NodeSession, progress: DrainProgress): Promise<void> {
    const { table, log } = this.options;
    const report = checked(progress);
    if (report === undefined) {
      log.warn({ node: session.nodeId }, 'drain_progress_implausible');
      return;
    }
    try {
      const state = this.#stateOf(session, report.drainId);
      if (state === undefined) await this.#doubt(session, report.drainId);
      else if (state === 'draining' && progress.complete) await this.#complete(session, report);
      else if (state === 'draining' && this.#isNews(session, report)) {
        this.#written.set(session, { at: performance.now(), report });
        await table.progress(session.nodeId, report);
      }
    } catch (err) {
      log.warn({ node: session.nodeId, reason: errorText(err) }, 'drain_progress_not_written');
    }
  }

  /** One at a time of each session: an agent may say it as often as it likes. */
  async #complete(session: NodeSession, report: DrainReport): Promise<void> {
    if (this.#completing.has(session)) return;
    this.#completing.add(session);
    try {
      const { table, log } = this.options;
      if (await table.complete(session.nodeId, report)) log.info({ node: session.nodeId, ...report }, 'drain_complete');
    } finally {
      this.#completing.delete(session);
    }
  }

  /**
   * An async invocation went back to its queue because this node did not finish it. Resolves when it is counted, if the node
   * drains: before its agent hears that the result is committed, so that no drain is complete without it. Never rejects.
   */
  async requeued(nodeId: string): Promise<void> {
    const { table, decisions, log } = this.options;
    if (decisions.of(nodeId)?.drain?.state !== 'draining') return;
    try {
      await table.requeued(nodeId);
    } catch (err) {
      log.warn({ node: nodeId, reason: errorText(err) }, 'requeued_not_counted');
    }
  }

  /** Undefined unless the node is in that drain, or was until it was complete. */
  #stateOf({ nodeId }: NodeSession, drainId: string): 'draining' | 'complete' | undefined {
    const drain = this.options.decisions.of(nodeId)?.drain;
    if (drain?.id !== drainId) return undefined;
    return drain.state === 'draining' || drain.state === 'complete' ? drain.state : undefined;
  }

  #isNews(session: NodeSession, report: DrainReport): boolean {
    const before = this.#written.get(session);
    if (before === undefined || before.report.drainId !== report.drainId) return true;
    const { inFlight, sandboxes, deadlineReached, killed } = before.report;
    const agoMs = performance.now() - before.at;
    const decisive = deadlineReached !== report.deadlineReached || (inFlight > 0 && report.inFlight === 0);
    if (decisive) return agoMs >= WRITE_DECISIVE_EVERY_MS;
    if (agoMs < WRITE_EVERY_MS) return false;
    return inFlight !== report.inFlight || sandboxes !== report.sandboxes || killed !== report.killed;
  }

  /** Another replica may have told it, of what this one does not know yet. */
  async #doubt(session: NodeSession, drainId: string): Promise<void> {
    const now = performance.now();
    if (now - (this.#doubtedAt.get(session) ?? Number.NEGATIVE_INFINITY) < DOUBT_EVERY_MS) return;
    this.#doubtedAt.set(session, now);
    if (!(await this.options.decisions.look()) || this.#stateOf(session, drainId) !== undefined) return;
    session.drain({ drainId, deadlineMs: undefined, cancelled: true });
  }
}

/** Undefined when no honest agent would say so. */
function checked(progress: DrainProgress): DrainReport | undefined {
  const { drainId, inFlight, sandboxes, inFlightMs, deadlineReached, killed } = progress;
  if (!areUuids([drainId]) || [inFlight, sandboxes, killed].some((count) => count > COUNT_MAX)) return undefined;
  if (inFlightMs > IN_FLIGHT_MS_MAX) return undefined;
  return { drainId, inFlight, sandboxes, inFlightMs, deadlineReached, killed };
}
