import type { InvocationRef, ResponseEnd } from '@lambda-fleet/proto';

export interface KeptResultsLimits {
  readonly resultsMax: number;
  readonly bytesMax: number;
}

/** A result is counted with this much beside its body: ids, receipt and the map's own cost. */
const OVERHEAD_BYTES = 1_024;

/**
 * Results that no control plane has committed yet. They are sent again after every
 * reconnect and dropped when they are acknowledged, so that a control plane that
 * dies between an answer and its commit loses no execution.
 *
 * Bounded: when it is full the agent refuses new work rather than lose a record.
 */
export class KeptResults {
  readonly #results = new Map<string, ResponseEnd>();
  #bytes = 0;
  #onEmpty: () => void = () => {};

  constructor(private readonly limits: KeptResultsLimits) {}

  get full(): boolean {
    return this.#results.size >= this.limits.resultsMax || this.#bytes >= this.limits.bytesMax;
  }

  get size(): number {
    return this.#results.size;
  }

  refs(): InvocationRef[] {
    return [...this.#results.values()].map(({ invocationId, epoch }) => ({ invocationId, epoch }));
  }

  /** Keeps the record of `end`; a body that travels in chunks is not part of it. */
  keep(end: ResponseEnd): void {
    this.#results.set(key(end), end);
    this.#bytes += sizeOf(end);
  }

  acknowledge(refs: readonly InvocationRef[]): void {
    for (const ref of refs) {
      const end = this.#results.get(key(ref));
      if (end === undefined) continue;
      this.#results.delete(key(ref));
      this.#bytes -= sizeOf(end);
    }
    if (this.#results.size === 0) this.#onEmpty();
  }

  /** Resolves when everything is acknowledged, or after `waitMs`. */
  drained(waitMs: number): Promise<void> {
    if (this.#results.size === 0) return Promise.resolve();
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, waitMs);
      this.#onEmpty = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  /** Everything that is kept, oldest first, marked as sent before. */
  replay(): ResponseEnd[] {
    return [...this.#results.values()].map((end) => ({ ...end, replayed: true }));
  }
}

function key(ref: { readonly invocationId: string; readonly epoch: number }): string {
  return `${ref.invocationId}/${ref.epoch}`;
}

export function sizeOf(end: ResponseEnd): number {
  return OVERHEAD_BYTES + end.body.length + (end.error?.errorMessage.length ?? 0);
}
