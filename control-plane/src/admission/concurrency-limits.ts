/** How often one function may run at once, and in whose share it counts. The same object for the life of a cached version. */
export interface ConcurrencyLimits {
  readonly functionId: string;
  readonly projectId: string;
  /** Invocations of the function at once. Undefined: no limit of its own. 0: it is switched off. */
  readonly max: number | undefined;
  /** It has a share of its own. Otherwise it counts in what the other functions of its project share. */
  readonly reserved: boolean;
}

/** The limits of a function as it is stored: null is none. */
export function concurrencyLimits(
  functionId: string,
  projectId: string,
  reserved: number | null,
  maximum: number | null,
): ConcurrencyLimits {
  const max = Math.min(reserved ?? Number.POSITIVE_INFINITY, maximum ?? Number.POSITIVE_INFINITY);
  return { functionId, projectId, max: Number.isFinite(max) ? max : undefined, reserved: reserved !== null };
}

export function isSameLimits(a: ConcurrencyLimits, b: ConcurrencyLimits): boolean {
  return a.max === b.max && a.reserved === b.reserved;
}
