/** How much one statement takes. */
export interface BatchLimits<E> {
  /** Entries at most. */
  readonly batchMax: number;
  /** Size of an entry in any unit; default 1. With `batchSizeMax` it bounds a statement whose entries differ much. */
  readonly sizeOf?: (entry: E) => number;
  readonly batchSizeMax?: number;
}

/** How many of the first entries go into one statement: as many as may, and always one. */
export function batchLength<E>(
  entries: readonly E[],
  { batchMax, sizeOf = () => 1, batchSizeMax = Number.POSITIVE_INFINITY }: BatchLimits<E>,
): number {
  let count = 0;
  let size = 0;
  for (const entry of entries) {
    size += sizeOf(entry);
    if (count > 0 && (count === batchMax || size > batchSizeMax)) break;
    count += 1;
  }
  return count;
}
