import type { ConcurrencyLimits } from '../admission/concurrency-limits.js';

/** Why a limit leaves no place: that of the function, or what the functions of a project share that reserved nothing. */
export type LimitReached = 'function_limit' | 'account_limit';

/** Invocations in progress by function, and by project those of functions that have reserved nothing. */
export class ConcurrencyCounts {
  readonly #byFunction = new Map<string, number>();
  readonly #unreserved = new Map<string, number>();

  get byFunction(): ReadonlyMap<string, number> {
    return this.#byFunction;
  }

  /** By project, of functions that have reserved nothing. */
  get unreserved(): ReadonlyMap<string, number> {
    return this.#unreserved;
  }

  /** Undefined when one more may run. */
  reached(limits: ConcurrencyLimits, unreservedMax: number): LimitReached | undefined {
    if (limits.max !== undefined && (this.#byFunction.get(limits.functionId) ?? 0) >= limits.max) {
      return 'function_limit';
    }
    const full = !limits.reserved && (this.#unreserved.get(limits.projectId) ?? 0) >= unreservedMax;
    return full ? 'account_limit' : undefined;
  }

  add(limits: ConcurrencyLimits): void {
    change(this.#byFunction, limits.functionId, 1);
    if (!limits.reserved) change(this.#unreserved, limits.projectId, 1);
  }

  /** @param limits as they were given to {@link add}: what counted as reserved then is taken back from there. */
  remove(limits: ConcurrencyLimits): void {
    change(this.#byFunction, limits.functionId, -1);
    if (!limits.reserved) change(this.#unreserved, limits.projectId, -1);
  }
}

function change(counts: Map<string, number>, key: string, by: number): void {
  const count = (counts.get(key) ?? 0) + by;
  if (count === 0) counts.delete(key);
  else counts.set(key, count);
}
