/** How often a function may run at once, as the API has it and `limits` in `lambda.json`. Null: no limit of its own. */
export interface ConcurrencySettings {
  /** Kept for it, and its limit; 0 switches it off. */
  readonly reserved: number | null;
  readonly maximum: number | null;
}

/** The server's range, which has the last word. */
export const LIMIT_MAX = 1_000_000;

export function isLimit(value: unknown, min: number): boolean {
  return value === null || (Number.isInteger(value) && Number(value) >= min && Number(value) <= LIMIT_MAX);
}
