import type { Logger } from '@lambda-fleet/common/logger';
import type { Sandbox } from './sandbox.js';

/** A period of the quota: a sandbox with several threads uses it up in a part of the period, and stands still in the rest. */
const LOOK_MS = 100;
/** Of one processor since the last look. */
const BUSY_SHARE = 0.4;

interface Seen {
  readonly cpuUs: number;
  readonly yielding: boolean;
}

/**
 * Makes sandboxes that compute for long yield to those that have just been called, as schedulers with feedback queues do:
 * a short call needs the processor many times for very little each, and would wait for a turn every time.
 *
 * States of a busy sandbox: fresh → yielding, when it kept 40 % of a processor or more busy between two looks; yielding →
 * fresh, when it did not, or has become idle. Yielding costs nothing while processors are free.
 */
export class LongRuns {
  /** Undefined before the first look: most invocations are over by then. */
  readonly #busy = new Map<Sandbox, Seen | undefined>();
  #timer: NodeJS.Timeout | undefined;
  #lookedAt = 0;

  constructor(private readonly log: Logger) {}

  /** To be called whenever the sandbox's state changes. */
  update(sandbox: Sandbox): void {
    if (sandbox.state !== 'busy') {
      const seen = this.#busy.get(sandbox);
      this.#busy.delete(sandbox);
      if (seen?.yielding === true && sandbox.state === 'idle') this.#yield(sandbox, false);
      return;
    }
    if (this.#busy.has(sandbox)) return;
    this.#busy.set(sandbox, undefined);
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
    for (const [sandbox, seen] of this.#busy) {
      const cpuUs = sandbox.resources?.usage()?.cpuUs;
      if (cpuUs === undefined) continue;
      const yielding = seen !== undefined && cpuUs - seen.cpuUs >= busyUs;
      if (yielding !== (seen?.yielding ?? false)) this.#yield(sandbox, yielding);
      this.#busy.set(sandbox, { cpuUs, yielding });
    }
    this.#timer = setTimeout(() => this.#look(), LOOK_MS).unref();
  }

  #yield(sandbox: Sandbox, yielding: boolean): void {
    try {
      sandbox.resources?.yieldProcessor(yielding);
    } catch (err) {
      this.log.warn({ err, sandbox: sandbox.id }, 'processor_share_not_set');
    }
  }
}
