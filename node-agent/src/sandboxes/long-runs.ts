import type { Logger } from '@lambda-fleet/common/logger';
import type { Sandbox } from './sandbox.js';

/** A period of the quota: a sandbox with several threads uses it up in a part of the period, and stands still in the rest. */
const LOOK_MS = 100;
/** Of one processor since the last look. */
const BUSY_SHARE = 0.4;

interface Watched {
  /** Undefined before the first look. */
  cpuUs: number | undefined;
  yielding: boolean;
}

/**
 * Makes sandboxes that compute for long yield to those that have just been called, as schedulers with feedback queues do: a short call needs
 * the processor many times for very little each, and would wait for a turn every time.
 *
 * States of a busy sandbox: fresh → yielding, when it kept 40 % of a processor or more busy between two looks; yielding →
 * fresh, when it did not, or has become idle. Yielding costs nothing while processors are free.
 */
export class LongRuns {
  readonly #busy = new Map<Sandbox, Watched>();
  #timer: NodeJS.Timeout | undefined;
  #lookedAt = 0;

  constructor(private readonly log: Logger) {}

  /** To be called whenever the sandbox's state changes. */
  update(sandbox: Sandbox): void {
    if (sandbox.state !== 'busy') {
      const watched = this.#busy.get(sandbox);
      if (watched === undefined) return;
      this.#busy.delete(sandbox);
      if (watched.yielding && sandbox.state === 'idle') this.#yield(sandbox, watched, false);
      return;
    }
    if (this.#busy.has(sandbox)) return;
    this.#busy.set(sandbox, { cpuUs: undefined, yielding: false });
    this.#timer ??= setTimeout(() => this.#look(), LOOK_MS).unref();
  }

  close(): void {
    clearTimeout(this.#timer);
  }

  #look(): void {
    this.#timer = undefined;
    if (this.#busy.size === 0) return;
    const now = performance.now();
    const busyUs = (now - this.#lookedAt) * 1_000 * BUSY_SHARE;
    this.#lookedAt = now;
    for (const [sandbox, watched] of this.#busy) {
      const before = watched.cpuUs;
      watched.cpuUs = sandbox.resources?.usage()?.cpuUs;
      if (before === undefined || watched.cpuUs === undefined) continue;
      const yielding = watched.cpuUs - before >= busyUs;
      if (yielding !== watched.yielding) this.#yield(sandbox, watched, yielding);
    }
    this.#timer = setTimeout(() => this.#look(), LOOK_MS).unref();
  }

  #yield(sandbox: Sandbox, watched: Watched, yielding: boolean): void {
    watched.yielding = yielding;
    try {
      sandbox.resources?.yieldProcessor(yielding);
    } catch (err) {
      this.log.warn({ err, sandbox: sandbox.id }, 'processor_share_not_set');
    }
  }
}
