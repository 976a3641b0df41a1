import { errorText } from '@lambda-fleet/common/errors';
import type { Logger } from '@lambda-fleet/common/logger';
import type { HeldJob, JobProgress, OrphanedJob } from './job-progress.js';
import type { JobSettler } from './job-settler.js';
import type { AttemptEnd } from './judge-attempt.js';

/** A node's agent, as it is connected now. */
export interface ConnectedAgent {
  /** Changes with every start of the agent. */
  readonly bootId: string;
  /** Stops what runs under this invocation id. */
  readonly cancel: (invocationId: string) => void;
}

export interface OrphanedJobsOptions {
  readonly progress: JobProgress;
  readonly settler: JobSettler;
  readonly agent: (nodeId: string) => ConnectedAgent | undefined;
  /** Agents get this long after the start of this process to connect again, whatever budgets have passed by then. Default 20 s. */
  readonly startGraceMs?: number;
  readonly log: Logger;
}

const START_GRACE_MS = 20_000;

/**
 * Jobs that are marked as running and that nobody in this process runs: the control plane died or was stopped while
 * they ran, or the link to their node broke.
 *
 * Such a job may be running still. It is settled
 * - by its execution, once its agent has connected again and reported the result;
 * - as outcome_unknown, when its agent was started anew and so knows nothing of it, or when its budgets have passed.
 *
 * Running it again any earlier could mean running it twice at once.
 */
export class OrphanedJobs {
  readonly #startedAt = performance.now();

  constructor(private readonly options: OrphanedJobsOptions) {}

  /**
   * Settles what can be settled now. `held` are the jobs that this process runs. Returns after how many milliseconds
   * each of those is due that are to run again. Never rejects; what goes wrong is found again by the next look.
   */
  async look(held: () => readonly HeldJob[]): Promise<readonly number[]> {
    const delays: number[] = [];
    try {
      for (const job of await this.options.progress.orphans(held())) {
        // It was taken, or let go, since the question was asked.
        if (held().some(({ id }) => id === job.id)) continue;
        const end = this.#endOf(job);
        if (end === undefined) {
          if (job.cancelRequested) this.options.agent(job.nodeId)?.cancel(job.invocationId);
          continue;
        }
        const { id, invocationId, retries, attempts, ageMs } = job;
        const soFar = { retries, attempts, ageMs, deferrals: 0 };
        const settled = await this.options.settler.settle(id, invocationId, soFar, end);
        if (settled.kind === 'retry' || settled.kind === 'defer') delays.push(settled.delayMs);
      }
    } catch (err) {
      this.options.log.warn({ reason: errorText(err) }, 'orphaned_jobs_not_settled');
    }
    return delays;
  }

  /** Undefined while it may be running. */
  #endOf(job: OrphanedJob): AttemptEnd | undefined {
    const { outcome, error, receipt, output } = job;
    // A record without a sandbox is this side's own, from the moment that the link broke.
    if (outcome !== null && (outcome !== 'outcome_unknown' || receipt?.sandboxId !== undefined)) {
      const body = output === null ? undefined : Buffer.from(output);
      return { outcome, over: true, error, reason: error?.errorMessage, body, receipt, tookMs: 0 };
    }
    const agent = this.options.agent(job.nodeId);
    const agentAnew = agent !== undefined && agent.bootId !== job.bootId;
    const graceMs = this.options.startGraceMs ?? START_GRACE_MS;
    const overdue = job.overdue && performance.now() - this.#startedAt > graceMs;
    if (!agentAnew && !overdue) return undefined;
    const reason = agentAnew
      ? `The agent of ${job.nodeId} was started again while the job ran there.`
      : `The node ${job.nodeId}, where the job ran, has not said how it ended.`;
    return { outcome: 'outcome_unknown', over: true, error: null, reason, body: undefined, receipt: null, tookMs: 0 };
  }
}
