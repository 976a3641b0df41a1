import type { Logger } from '@lambda-fleet/common/logger';

export interface MemoryPressureOptions {
  /** What the machine could still give to programs, bytes; undefined where it does not say. */
  readonly availableBytes: () => number | undefined;
  /** Gives up the least useful sandbox that nobody uses. False when there is none. */
  readonly giveUpOne: () => boolean;
  readonly log: Logger;
}

const LOOK_MS = 1_000;
/** Below, sandboxes are given up; no blanks are made below twice as much. */
const LOW_BYTES = 256 * 1024 * 1024;

/**
 * The budget counts what sandboxes may use; this looks at what the machine really has left, which others use too. When
 * it is low, blanks and then idle sandboxes are given up, one a second, so that the kernel does not have to choose whom to kill.
 */
export class MemoryPressure {
  readonly #timer: NodeJS.Timeout;

  constructor(private readonly options: MemoryPressureOptions) {
    this.#timer = setInterval(() => this.#look(), LOOK_MS).unref();
  }

  /** Whether nothing should be started that nobody waits for. */
  get high(): boolean {
    return (this.options.availableBytes() ?? Number.POSITIVE_INFINITY) < 2 * LOW_BYTES;
  }

  close(): void {
    clearInterval(this.#timer);
  }

  #look(): void {
    const { availableBytes, giveUpOne, log } = this.options;
    const available = availableBytes() ?? Number.POSITIVE_INFINITY;
    if (available < LOW_BYTES && giveUpOne()) log.warn({ availableBytes: available }, 'memory_low');
  }
}
