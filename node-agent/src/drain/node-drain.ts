import { errorText } from '@lambda-fleet/common/errors';
import type { Logger } from '@lambda-fleet/common/logger';
import type { Drain, DrainProgress } from '@lambda-fleet/proto';

/** What a drain needs of the invocation runner. */
export interface DrainRunner {
  refuse(reason: string | undefined): void;
  load(): { readonly inFlight: number; readonly inFlightMs: number; readonly sandboxes: number };
  giveUpIdle(floorsToo: boolean): void;
  endAll(graceMs: number): Promise<number>;
}

/** What it needs of the link. */
export interface DrainLink {
  /** Image builds that run. */
  readonly builds: number;
  /** Whether every result and log line is committed. */
  readonly settled: boolean;
  readonly floors: { tellAgain(): void };
  refuseBuilds(reason: string | undefined): void;
  abandonBuilds(): void;
  reportDrain(progress: DrainProgress): void;
  capacityChanged(): void;
}

export interface NodeDrainOptions {
  readonly runner: DrainRunner;
  readonly link: DrainLink;
  readonly lookForLeaks: () => Promise<void>;
  readonly log: Logger;
}

const LOOK_MS = 250;
const REPORT_EVERY_MS = 5_000;
/** Between SIGTERM and SIGKILL. */
const GRACE_MS = 2_000;

/**
 * Empties this node when it is told to.
 *
 * - serving: no drain, or it was cancelled; then the floors that are asked for are kept again.
 * - draining: new work is refused, what runs goes on, what nobody uses is given up, but for the floors. At the deadline → ending.
 * - ending: what runs gets SIGTERM, and 2 s later SIGKILL; floors are given up too.
 * - In both, as soon as nothing runs, no sandbox is left and everything is committed → drained.
 * - drained: as draining, with nothing left. It lasts until the drain is cancelled.
 *
 * Each is reported when it changes, and every 5 s: a report that got lost, or that could not be written, is repeated. A drain
 * that was cancelled is never taken up again: a control plane that has not heard of that may say it once more.
 */
export class NodeDrain {
  #state: 'serving' | 'draining' | 'ending' | 'drained' = 'serving';
  #drainId = '';
  #cancelledId = '';
  /** `performance.now()` of the deadline. */
  #deadline: number | undefined;
  #deadlineReached = false;
  #killed = 0;
  /** What runs is being ended, and not all of it is counted yet. */
  #cutting = false;
  #reported = '';
  #reportedAt = 0;
  #looking = false;
  #closed = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(private readonly options: NodeDrainOptions) {}

  receive({ drainId, deadlineMs, cancelled }: Drain): void {
    if (this.#closed) return;
    if (cancelled) {
      this.#cancelledId = drainId;
      if (this.#state !== 'serving' && drainId === this.#drainId) this.#serve();
      return;
    }
    if (drainId === this.#cancelledId) return;
    this.#deadline = deadlineMs === undefined ? undefined : performance.now() + deadlineMs;
    // Whoever says it again may not have heard how far it is.
    this.#reported = '';
    if (this.#state === 'serving' || drainId !== this.#drainId) this.#begin(drainId);
    void this.#look();
  }

  /** The agent is being stopped, which is another matter. */
  close(): void {
    this.#closed = true;
    clearInterval(this.#timer);
  }

  #begin(drainId: string): void {
    const { runner, link, log } = this.options;
    this.#drainId = drainId;
    this.#deadlineReached = false;
    this.#killed = 0;
    this.#state = 'draining';
    runner.refuse('this node drains');
    link.refuseBuilds('this node drains');
    link.capacityChanged();
    this.#timer ??= setInterval(() => void this.#look(), LOOK_MS);
    log.info({ drain: drainId, ...runner.load() }, 'drain_started');
  }

  #serve(): void {
    const { runner, link, log } = this.options;
    this.#state = 'serving';
    clearInterval(this.#timer);
    this.#timer = undefined;
    runner.refuse(undefined);
    link.refuseBuilds(undefined);
    // What was given up at the deadline is still asked for by those who asked for it before: they do not know.
    link.floors.tellAgain();
    link.capacityChanged();
    log.info({ drain: this.#drainId }, 'drain_cancelled');
  }

  async #look(): Promise<void> {
    if (this.#looking) return;
    this.#looking = true;
    try {
      const { runner } = this.options;
      const late = this.#deadline !== undefined && performance.now() >= this.#deadline;
      if (late && this.#state === 'draining') this.#end();
      runner.giveUpIdle(this.#state !== 'draining');
      const empty = this.#isEmpty() && (await this.#isEmptyForSure());
      if (!this.#isOver()) this.#report(empty);
    } catch (err) {
      this.options.log.error({ err: errorText(err) }, 'drain_failed');
    } finally {
      this.#looking = false;
    }
  }

  /** Methods, because the state changes during awaits, which the compiler's narrowing does not know. */
  #isOver(): boolean {
    return this.#closed || this.#state === 'serving';
  }

  #end(): void {
    const { runner, link, log } = this.options;
    const { inFlight } = runner.load();
    this.#state = 'ending';
    if (inFlight === 0 && link.builds === 0) return;
    this.#deadlineReached = true;
    log.warn({ drain: this.#drainId, inFlight }, 'drain_deadline_reached');
    link.abandonBuilds();
    const drainId = this.#drainId;
    this.#cutting = true;
    void runner.endAll(GRACE_MS).then((killed) => {
      this.#cutting = false;
      if (this.#drainId === drainId) this.#killed += killed;
    });
  }

  #isEmpty(): boolean {
    const { runner, link } = this.options;
    const { inFlight, sandboxes } = runner.load();
    return inFlight === 0 && sandboxes === 0 && link.builds === 0 && link.settled && !this.#cutting;
  }

  /** Containers of this agent that no sandbox stands for are found by looking, once they are all that could be left. */
  async #isEmptyForSure(): Promise<boolean> {
    if (this.#state === 'drained') return true;
    await this.options.lookForLeaks();
    return this.#isEmpty();
  }

  #report(empty: boolean): void {
    const { runner, link, log } = this.options;
    if (empty && this.#state !== 'drained') {
      this.#state = 'drained';
      log.info({ drain: this.#drainId, killed: this.#killed }, 'drain_complete');
    }
    const { inFlight, inFlightMs, sandboxes } = runner.load();
    const leftMs = this.#deadline === undefined ? inFlightMs : Math.max(0, this.#deadline - performance.now());
    const progress: DrainProgress = {
      drainId: this.#drainId,
      inFlight: inFlight + link.builds,
      sandboxes,
      inFlightMs: Math.ceil(Math.min(inFlightMs, leftMs)),
      deadlineReached: this.#deadlineReached,
      killed: this.#killed,
      complete: empty,
    };
    const key = JSON.stringify({ ...progress, inFlightMs: 0 });
    const now = performance.now();
    if (key === this.#reported && now - this.#reportedAt < REPORT_EVERY_MS) return;
    this.#reported = key;
    this.#reportedAt = now;
    link.reportDrain(progress);
  }
}
