/** How a function's async invocations are tried, as the API has it and `async` in `lambda.json`. */
export interface AsyncSettings {
  readonly retries: number;
  readonly retryDelaysMs: readonly number[];
  readonly maxAgeMs: number;
  /** Null: nowhere. */
  readonly onSuccess: Destination | null;
  readonly onFailure: Destination | null;
}

/** Where what became of an async invocation is sent. */
export type Destination = { readonly function: string } | { readonly url: string };

/** The server's ranges, which has the last word. */
export const RETRIES_MAX = 5;
export const DELAY_MS_MAX = 3_600_000;
export const AGE_MS_MIN = 1_000;
export const AGE_MS_MAX = 21_600_000;

export function isRetryDelays(value: unknown): boolean {
  return (
    Array.isArray(value) &&
    value.length >= 1 &&
    value.length <= RETRIES_MAX &&
    value.every((delay) => Number.isInteger(delay) && delay >= 0 && delay <= DELAY_MS_MAX)
  );
}

/** Whether it could be one: what it leads to is looked at by the server. */
export function isDestination(value: unknown): boolean {
  if (value === null) return true;
  if (typeof value !== 'object' || Array.isArray(value)) return false;
  const [[field, text] = [], ...more] = Object.entries(value);
  if (typeof text !== 'string' || more.length > 0) return false;
  return field === 'function' ? text !== '' : field === 'url' && isWebUrl(text);
}

export function isWebUrl(text: string): boolean {
  return URL.canParse(text) && /^https?:$/.test(new URL(text).protocol);
}
