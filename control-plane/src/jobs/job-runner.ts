import { setMaxListeners } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { Backoff } from '@lambda-fleet/common/backoff';
import { withDeadline } from '@lambda-fleet/common/deadline';
import { errorText, FleetError } from '@lambda-fleet/common/errors';
import type { Logger } from '@lambda-fleet/common/logger';
import { v7 as uuidv7 } from 'uuid';
import type { SentTo } from '../invocations/invocation.js';
import { type JobAttemptOptions, runAttempt } from './job-attempt.js';
import type { HeldJob, JobProgress, RunnableJob } from './job-progress.js';
import type { JobSettler, Settled } from './job-settler.js';
import type { AttemptEnd } from './judge-attempt.js';
import type { OrphanedJobs } from './orphaned-jobs.js';

export interface JobRunnerOptions extends JobAttemptOptions {
  readonly progress: JobProgress;
  readonly settler: JobSettler;
  readonly orphans: OrphanedJobs;
  /** Resolves when the log lines that have come until now are stored. */
  readonly logsStored: () => Promise<void>;
  /** Jobs that are in progress or look for a node, at once. Each holds its arguments. */
  readonly concurrencyMax: number;
  readonly log: Logger;
}

interface Held extends HeldJob {
  readonly cancel: AbortController;
}

/** The backstop: for jobs whose time came while nobody looked, and for those that another process left. */
const TICK_MS = 5_000;

/** Added to a job's delay: it counts on the database's clock. */
const LATE_MS = 20;

/** A job's end is not held up for longer by a backlog of log lines. */
const LOGS_WAIT_MS = 1_000;

/** After a fault a job is let go this much later, so that it is not taken again at once. */
const FAULT_PAUSE_MS = 1_000;

/**
 * Runs the queued jobs of all projects, a bounded number at once.
 *
 * The table is the queue and the only truth. A job that is worked on here is *held*, in memory; it stays queued in the
 * table until the moment before it is sent to a node. So nothing has to be taken over after a crash but jobs that are
 * marked as running and held by nobody: those are {@link OrphanedJobs}.
 *
 * States: idle ⇄ taking → closed. Taking hands due jobs out until none is due or as many are held as may; being woken
 * while it takes makes it look once more. Each held job is: loading → attempt → settling → let go.
 */
export class JobRunner {
  readonly #held = new Map<string, Held>();
  readonly #deferrals = new Map<string, number>();
  #state: 'idle' | 'taking' | 'closed' = 'idle';
  #again = false;
  #looking = false;
  #lastProject = '';
  #timer: NodeJS.Timeout | undefined;
  readonly #closing = new AbortController();

  constructor(private readonly options: JobRunnerOptions) {
    // Each held job may be pausing.
    setMaxListeners(options.concurrencyMax, this.#closing.signal);
  }

  start(): void {
    this.#timer = setInterval(() => this.#tick(), TICK_MS);
    this.#timer.unref();
    this.#tick();
  }

  /** A job was stored, or one may have become due. */
  wake(): void {
    this.#again = true;
    if (this.#state === 'idle') void this.#take();
  }

  /** To be called after the table says so. What is not held here is an orphan, or has ended. */
  cancel(jobId: string): void {
    this.#deferrals.delete(jobId);
    const held = this.#held.get(jobId);
    if (held === undefined) this.#tick();
    else held.cancel.abort();
  }

  /**
   * Takes no more. What runs goes on at its nodes and stays marked as running: whoever starts next hears of it from
   * their agents.
   */
  close(): void {
    if (this.#state === 'closed') return;
    this.#become('closed');
    clearInterval(this.#timer);
    this.#closing.abort();
  }

  /** Settles orphaned jobs, where that is possible. Done at the start and every few seconds without being called. */
  async settleOrphans(): Promise<void> {
    for (const delayMs of await this.options.orphans.look(() => [...this.#held.values()])) this.#wakeAfter(delayMs);
  }

  #tick(): void {
    if (this.#state === 'closed') return;
    this.wake();
    if (this.#looking) return;
    this.#looking = true;
    void this.settleOrphans().then(() => {
      this.#looking = false;
    });
  }

  async #take(): Promise<void> {
    this.#become('taking');
    try {
      while (this.#again && this.#state === 'taking') {
        this.#again = false;
        const room = this.options.concurrencyMax - this.#held.size;
        if (room <= 0) break;
        const due = await this.options.progress.due([...this.#held.values()], room, this.#lastProject);
        for (const job of due) this.#hold(job);
        this.#lastProject = due.at(-1)?.projectId ?? this.#lastProject;
      }
    } catch (err) {
      // The next tick asks again.
      this.options.log.warn({ reason: errorText(err) }, 'jobs_not_taken');
    }
    if (this.#state === 'taking') this.#become('idle');
  }

  #hold({ id, projectId }: HeldJob): void {
    if (this.#state === 'closed') return;
    const held: Held = { id, projectId, cancel: new AbortController() };
    this.#held.set(id, held);
    void this.#run(held).then(() => {
      this.#held.delete(id);
      this.wake();
    });
  }

  /** Never rejects. */
  async #run(held: Held): Promise<void> {
    const { progress, log } = this.options;
    try {
      const job = await progress.load(held.id);
      if (job !== undefined) await this.#attempt(job, held);
    } catch (err) {
      if (this.#state === 'closed') return;
      log.warn({ reason: errorText(err), job: held.id }, 'job_not_loaded_or_settled');
      await this.#pause(FAULT_PAUSE_MS);
    }
  }

  async #attempt(job: RunnableJob, held: Held): Promise<void> {
    const { progress, log } = this.options;
    const invocationId = uuidv7();
    let begun = false;
    const begin = async (sentTo: SentTo): Promise<boolean> => {
      try {
        const mayRun = await progress.begin(job.id, invocationId, sentTo);
        begun ||= mayRun;
        return mayRun;
      } catch (err) {
        // It may be written all the same; deferring it takes that back.
        log.warn({ job: job.id, reason: errorText(err) }, 'job_not_begun');
        return false;
      }
    };
    const end = await runAttempt(job, { invocationId, signal: held.cancel.signal, begin }, this.options).catch(
      (err: unknown) => {
        log[isPassing(err) ? 'warn' : 'error']({ err, job: job.id }, 'job_attempt_faulted');
        return faulted(err, begun);
      },
    );
    if (this.#state === 'closed' && !end.over) return;
    // Whoever sees that the job has finished finds its lines, which came before the result.
    if (begun) await withDeadline('storing log lines', LOGS_WAIT_MS, this.options.logsStored()).catch(() => undefined);
    const settled = await this.#settle(job, invocationId, begun, end);
    if (settled.kind === 'defer') this.#deferrals.set(job.id, (this.#deferrals.get(job.id) ?? 0) + 1);
    else this.#deferrals.delete(job.id);
    if (settled.kind === 'retry' || settled.kind === 'defer') {
      this.#wakeAfter(settled.delayMs);
    }
  }

  #wakeAfter(delayMs: number): void {
    setTimeout(() => this.wake(), delayMs + LATE_MS).unref();
  }

  /** Tries until the database takes it: this process alone knows how the attempt ended. */
  async #settle(job: RunnableJob, invocationId: string, begun: boolean, end: AttemptEnd): Promise<Settled> {
    const { retries, ageMs } = job;
    const attempts = job.attempts + (begun ? 1 : 0);
    const soFar = { retries, attempts, ageMs: ageMs + end.tookMs, deferrals: this.#deferrals.get(job.id) ?? 0 };
    const backoff = new Backoff({ firstMs: 200, capMs: 5_000 });
    for (;;) {
      try {
        return await this.options.settler.settle(job.id, invocationId, soFar, end);
      } catch (err) {
        if (!isPassing(err) || this.#state === 'closed') throw err;
        await this.#pause(backoff.next());
      }
    }
  }

  #pause(ms: number): Promise<void> {
    return sleep(ms, undefined, { signal: this.#closing.signal }).catch(() => undefined);
  }

  #become(state: 'idle' | 'taking' | 'closed'): void {
    const allowed = { idle: ['taking', 'closed'], taking: ['idle', 'closed'], closed: [] as string[] };
    if (!allowed[this.#state].includes(state)) throw new Error(`job runner: ${this.#state} → ${state}`);
    this.#state = state;
  }
}

/** Nothing was sent, or nobody can tell. */
function faulted(err: unknown, begun: boolean): AttemptEnd {
  const reason = isPassing(err) ? errorText(err) : 'The control plane has a fault; its log has the detail.';
  const outcome = begun ? 'outcome_unknown' : 'not_started';
  return { outcome, over: !begun, error: null, reason, body: undefined, receipt: null, tookMs: 0 };
}

function isPassing(err: unknown): boolean {
  return err instanceof FleetError && err.retryable;
}
