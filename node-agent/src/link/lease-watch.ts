import { uptime } from 'node:os';
import type { Logger } from '@lambda-fleet/common/logger';
import type { Lease } from '@lambda-fleet/proto';

export interface LeaseWatchOptions {
  /** Called once each time the lease is found to be over; has to end all work that runs. */
  readonly onOver: () => void;
  /** Milliseconds on a clock that also counts while the machine sleeps and that nobody sets. */
  readonly clockMs?: () => number;
  readonly log: Logger;
}

const CHECK_MS = 1_000;

/** A jump of the wall clock between two checks: the process or the machine stood still, or somebody set the clock. */
const JUMP_MS = 2_000;

/**
 * Whether this node may go on with its work.
 *
 * States: unheard (no replica has spoken of a lease: they may be too old to) → held ⇄ over. While it is held, a replica of the
 * control plane that hears this node has said so; when it is over, others may have been told to run what runs here.
 *
 * How long a lease is valid counts from when this node sent the report that the replica answers: what comes out of a buffer
 * after this process stood still, or over a slow connection, makes nothing valid that has ended.
 */
export class LeaseWatch {
  #validUntilMs: number | undefined;
  #over = false;
  #epoch = 0;
  #checkedAtUnixMs = Date.now();
  #timer: NodeJS.Timeout | undefined;

  constructor(private readonly options: LeaseWatchOptions) {}

  /** Now, for {@link Capacity.sentMs}. */
  nowMs(): number {
    return Math.round((this.options.clockMs ?? bootClockMs)());
  }

  /** True: no work may be begun here. */
  get over(): boolean {
    return this.#over;
  }

  start(): void {
    this.#timer = setInterval(() => this.#check(), CHECK_MS).unref();
  }

  close(): void {
    clearInterval(this.#timer);
  }

  /** A replica renewed the lease. */
  told({ epoch, validMs, heardMs }: Lease): void {
    this.checkAfterPause();
    if (heardMs === undefined) return;
    this.#validUntilMs = Math.max(this.#validUntilMs ?? 0, heardMs + validMs);
    if (this.nowMs() >= this.#validUntilMs) return;
    if (epoch !== 0) this.#epoch = epoch;
    if (!this.#over) return;
    this.#over = false;
    this.options.log.info({ epoch: this.#epoch }, 'lease_held_again');
  }

  /** To be called before anything is sent that happened just now. Costs next to nothing. */
  checkAfterPause(): void {
    if (Math.abs(Date.now() - this.#checkedAtUnixMs) > JUMP_MS) this.#check();
  }

  #check(): void {
    this.#checkedAtUnixMs = Date.now();
    if (this.#validUntilMs === undefined || this.#over || this.nowMs() < this.#validUntilMs) return;
    this.#over = true;
    this.options.log.error({ epoch: this.#epoch }, 'lease_over: no replica has renewed it; ending what runs');
    this.options.onOver();
  }
}

/** On Linux this counts while the machine sleeps, which `performance.now()` does not. */
function bootClockMs(): number {
  return uptime() * 1_000;
}
