import { setTimeout as sleep } from 'node:timers/promises';
import { Backoff } from '@lambda-fleet/common/backoff';
import { crashPoint } from '@lambda-fleet/common/crash-points';
import { errorText, FleetError } from '@lambda-fleet/common/errors';
import type { Logger } from '@lambda-fleet/common/logger';
import type { Database } from '../db/database.js';
import { GroupCommit } from '../db/group-commit.js';
import type { SentTo } from '../invocations/invocation.js';
import type { ClaimedInvocation } from './async-invocation.js';
import type { AttemptSettler, SettleOptions } from './attempt-settler.js';
import { type BeginningAttempt, beginAttempts } from './begin-attempts.js';
import { type ClaimOptions, claimInvocations } from './claim-invocations.js';
import { letGo, renewLeases } from './leases.js';
import { type Attempt, type AttemptRunner, faulted, notMade } from './run-attempt.js';
import { shareOf } from './share-of.js';
import { YieldingLimit } from './yielding-limit.js';

export interface AsyncRunnerOptions {
  readonly database: Database;
  /** With {@link QUEUE_UNHURRIED}: for beginnings and leases. */
  readonly unhurriedDatabase: Database;
  /** This process, as rows name it. */
  readonly owner: string;
  readonly settler: AttemptSettler;
  /** Runs one attempt, by the kind of the invocation. */
  readonly run: AttemptRunner;
  /** Whether anything can be run here. */
  readonly ready: () => boolean;
  /** How slow the database is to those who hand invocations in, see {@link Slowness}. */
  readonly slowness: () => number;
  /** Invocations in progress at once, while this process has time to spare. */
  readonly concurrencyMax: number;
  /** Jobs among them: each holds its arguments, up to 6 MB. */
  readonly jobsMax: number;
  readonly log: Logger;
}

interface Held {
  readonly row: ClaimedInvocation;
  readonly cancel: AbortController;
}

interface HeldLane {
  held: number;
  readonly jobs: boolean;
  /** As often as its function may run at once, when last heard. */
  most: number;
}

/** A process that has not renewed for so long is taken for dead. */
const LEASE_MS = 15_000;
const RENEW_MS = 5_000;

/**
 * While much is in progress, claims are so far apart: each invocation that ends makes room for one more, and claiming one at a
 * time costs as much as claiming many.
 */
const BUSY_INTERVAL_MS = 5;

/** The backstop: for what became due without anybody here being told. */
const POLL_MS = 500;

/** Added to a delay, which counts on the database's clock. */
const LATE_MS = 20;

/**
 * Runs queued async invocations, a bounded number at once.
 *
 * States: idle ⇄ claiming → closed. Being woken while it claims makes it look once more. Each invocation that is held is:
 * claimed → (begun, at each node that it is sent to) → settled → let go. The table is the only truth: what is lost here
 * is found there when its lease has run out.
 */
export class AsyncRunner {
  readonly #held = new Map<string, Held>();
  readonly #heldByLane = new Map<string, HeldLane>();
  readonly #begin: GroupCommit<BeginningAttempt, boolean>;
  #state: 'idle' | 'claiming' | 'closed' = 'idle';
  #again = false;
  #claimedAt = 0;
  #poll: NodeJS.Timeout | undefined;
  #renewal: NodeJS.Timeout | undefined;
  readonly #closing = new AbortController();
  readonly #limit: YieldingLimit;

  constructor(private readonly options: AsyncRunnerOptions) {
    this.#limit = new YieldingLimit(options.concurrencyMax, options.slowness);
    this.#begin = new GroupCommit({
      what: 'the beginnings of async attempts',
      commit: (attempts) => beginAttempts(options.unhurriedDatabase, attempts),
      batchMax: 500,
      inFlightMax: 1,
      pendingMax: 20_000,
    });
  }

  start(): void {
    this.#poll = setInterval(() => this.wake(), POLL_MS).unref();
    this.#renewal = setInterval(() => void this.#renew(), RENEW_MS).unref();
    this.wake();
  }

  /** Something was queued, may have become due, or may find a node now. */
  wake(): void {
    if (!this.options.ready()) return;
    this.#again = true;
    if (this.#state === 'idle') void this.#claim();
  }

  /** Something becomes due in this many milliseconds. */
  wakeAfter(delayMs: number): void {
    if (delayMs <= 0) this.wake();
    // A longer one is met by looking anyway.
    else if (delayMs < POLL_MS) setTimeout(() => this.wake(), delayMs + LATE_MS).unref();
  }

  holds(id: string): boolean {
    return this.#held.has(id);
  }

  /** To be called after the table says so. False: it is not in progress here. */
  cancel(id: string): boolean {
    const held = this.#held.get(id);
    held?.cancel.abort();
    return held !== undefined;
  }

  /** Takes no more, and lets go of what runs: it goes on at its nodes, and whoever is told how it ended writes that down. */
  async close(): Promise<void> {
    if (this.#state === 'closed') return;
    this.#become('closed');
    clearInterval(this.#poll);
    clearInterval(this.#renewal);
    this.#limit.close();
    this.#closing.abort();
    const refs = [...this.#held.values()].map(({ row }) => row);
    await letGo(this.options.database, this.options.owner, refs).catch((err: unknown) => {
      this.options.log.warn({ reason: errorText(err), invocations: refs.length }, 'async_invocations_not_let_go');
    });
  }

  async #claim(): Promise<void> {
    this.#become('claiming');
    const { database, owner, log } = this.options;
    try {
      while (this.#again && this.#state === 'claiming') {
        this.#again = false;
        await this.#rest();
        const free = this.#limit.current - this.#held.size;
        if (free <= 0) break;
        const rows = await claimInvocations(database, {
          owner,
          leaseMs: LEASE_MS,
          limit: free,
          ...this.#sharesOf(free),
        });
        if (rows.length > 0) crashPoint('after-claim');
        for (const row of rows) this.#hold(row);
        this.#again ||= rows.length > 0;
      }
    } catch (err) {
      // The next look asks again.
      log.warn({ reason: errorText(err) }, 'async_invocations_not_claimed');
    }
    if (this.#state === 'claiming') this.#become('idle');
  }

  /** Lanes of jobs share among each other what is left of the places of jobs. */
  #sharesOf(free: number): Pick<ClaimOptions, 'shares' | 'perLane' | 'perJobLane' | 'jobsMax'> {
    const lanes = [...this.#heldByLane];
    const jobsHeld = lanes.reduce((sum, [, { held, jobs }]) => sum + (jobs ? held : 0), 0);
    const jobsMax = Math.max(0, Math.min(free, this.options.jobsMax - jobsHeld));
    const shares = new Map(
      lanes.map(([id, { held, jobs, most }]) => {
        return [id, Math.max(0, Math.min(shareOf(held, jobs ? jobsMax : free), most - held))];
      }),
    );
    return { shares, perLane: shareOf(0, free), perJobLane: shareOf(0, jobsMax), jobsMax };
  }

  /** Nothing while little is in progress. */
  async #rest(): Promise<void> {
    const waitMs = this.#claimedAt + BUSY_INTERVAL_MS - performance.now();
    if (waitMs > 0 && this.#held.size > this.#limit.current / 4) await sleep(waitMs);
    this.#claimedAt = performance.now();
  }

  #hold(row: ClaimedInvocation): void {
    if (this.#state === 'closed') return;
    const held: Held = { row, cancel: new AbortController() };
    this.#held.set(row.id, held);
    const lane = this.#heldByLane.get(row.laneId) ?? { held: 0, jobs: row.kind === 'job', most: 0 };
    this.#heldByLane.set(row.laneId, lane);
    lane.held += 1;
    lane.most = row.kind === 'function' && row.concurrencyMax !== null ? row.concurrencyMax : Number.POSITIVE_INFINITY;
    void this.#run(held).then(() => {
      this.#held.delete(row.id);
      lane.held -= 1;
      if (lane.held === 0) this.#heldByLane.delete(row.laneId);
      this.wake();
    });
  }

  /** Never rejects. */
  async #run({ row, cancel }: Held): Promise<void> {
    const attempt = await this.#attempt(row, cancel.signal);
    // What broke because this process stops is no news of it.
    if (this.#state === 'closed' && !attempt.end.over) return;
    await this.#settle(row, attempt, { cancelled: cancel.signal.aborted });
  }

  async #attempt(row: ClaimedInvocation, signal: AbortSignal): Promise<Attempt> {
    if (row.leftMs <= 0) return notMade('its age limit passed while it was queued');
    try {
      return await this.options.run(row, { signal, begin: (sentTo) => this.#begun(row, sentTo) });
    } catch (err) {
      this.options.log[isPassing(err) ? 'warn' : 'error']({ err, invocation: row.id }, 'async_attempt_faulted');
      return faulted(err);
    }
  }

  async #begun({ id, epoch }: ClaimedInvocation, { nodeId, bootId }: SentTo): Promise<boolean> {
    try {
      const begun = await this.#begin.submit({ id, epoch, owner: this.options.owner, nodeId, bootId });
      crashPoint('after-begin');
      return begun;
    } catch (err) {
      this.options.log.warn({ invocation: id, reason: errorText(err) }, 'async_attempt_not_begun');
      return false;
    }
  }

  /** Tries until the database takes it: this process alone knows how the attempt ended. */
  async #settle(row: ClaimedInvocation, { end, made, acknowledge }: Attempt, options: SettleOptions): Promise<void> {
    const backoff = new Backoff({ firstMs: 100, capMs: 2_000 });
    for (;;) {
      try {
        crashPoint('after-result');
        await this.options.settler.settle(row, end, made, options);
        crashPoint('after-settle');
        acknowledge?.();
        return;
      } catch (err) {
        const passing = isPassing(err) || isRivalry(err);
        if (!passing) this.options.log.error({ err, invocation: row.id }, 'async_attempt_not_settled');
        if (!passing || this.#state === 'closed') return;
        await sleep(backoff.next(), undefined, { signal: this.#closing.signal }).catch(() => undefined);
      }
    }
  }

  async #renew(): Promise<void> {
    if (this.#held.size === 0) return;
    const rows = [...this.#held.values()].map(({ row }) => row);
    try {
      const cancelled = await renewLeases(this.options.unhurriedDatabase, this.options.owner, LEASE_MS, rows);
      for (const id of cancelled) this.cancel(id);
    } catch (err) {
      this.options.log.warn({ reason: errorText(err) }, 'async_leases_not_renewed');
    }
  }

  #become(state: 'idle' | 'claiming' | 'closed'): void {
    const allowed = { idle: ['claiming', 'closed'], claiming: ['idle', 'closed'], closed: [] as string[] };
    if (!allowed[this.#state].includes(state)) throw new Error(`async runner: ${this.#state} → ${state}`);
    this.#state = state;
  }
}

function isPassing(err: unknown): boolean {
  return err instanceof FleetError && err.retryable;
}

/** SQLSTATE class 40: the server ended the statement in favour of another one. */
function isRivalry(err: unknown): boolean {
  return err instanceof Error && 'code' in err && typeof err.code === 'string' && err.code.startsWith('40');
}
