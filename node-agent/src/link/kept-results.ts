import type { InvocationRef, ResponseEnd } from '@lambda-fleet/proto';

export interface KeptResultsLimits {
  readonly resultsMax: number;
  readonly bytesMax: number;
}

interface Kept<Carrier> {
  readonly end: ResponseEnd;
  /** Over which it was sent last; undefined while there is none. */
  carrier: Carrier | undefined;
}

/** A result is counted with this much beside its body: ids, receipt and the map's own cost. */
const OVERHEAD_BYTES = 1_024;

/**
 * Results that no control plane has committed yet. Each is sent over one link at a time, again over another one when that
 * breaks, and dropped when any replica acknowledges it, so that a control plane that dies between an answer and its commit
 * loses no execution.
 *
 * Bounded: when it is full the agent refuses new work rather than lose a record.
 */
export class KeptResults<Carrier> {
  readonly #results = new Map<string, Kept<Carrier>>();
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
    return [...this.#results.values()].map(({ end: { invocationId, epoch } }) => ({ invocationId, epoch }));
  }

  /** Keeps the record of `end`, which is sent over `carrier` now; a body that travels in chunks is not part of it. */
  keep(end: ResponseEnd, carrier: Carrier | undefined): void {
    this.#results.set(key(end), { end, carrier });
    this.#bytes += sizeOf(end);
  }

  acknowledge(refs: readonly InvocationRef[]): void {
    for (const ref of refs) {
      const kept = this.#results.get(key(ref));
      if (kept === undefined) continue;
      this.#results.delete(key(ref));
      this.#bytes -= sizeOf(kept.end);
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

  /** The link is gone: what it carried waits for another. */
  lost(carrier: Carrier): void {
    for (const kept of this.#results.values()) if (kept.carrier === carrier) kept.carrier = undefined;
  }

  /** Everything that no link carries, oldest first, marked as sent before. From now on `carrier` does. */
  takeOver(carrier: Carrier): ResponseEnd[] {
    const taken: ResponseEnd[] = [];
    for (const kept of this.#results.values()) {
      if (kept.carrier !== undefined) continue;
      kept.carrier = carrier;
      taken.push({ ...kept.end, replayed: true });
    }
    return taken;
  }
}

function key(ref: { readonly invocationId: string; readonly epoch: number }): string {
  return `${ref.invocationId}/${ref.epoch}`;
}

export function sizeOf(end: ResponseEnd): number {
  return OVERHEAD_BYTES + end.body.length + (end.error?.errorMessage.length ?? 0);
}
