import { FUNCTION_NAME } from '@lambda-fleet/common/limits';
import { InvalidArgumentError } from 'commander';
import {
  AGE_MS_MAX,
  AGE_MS_MIN,
  DELAY_MS_MAX,
  type Destination,
  isRetryDelays,
  isWebUrl,
  RETRIES_MAX,
} from './project/async-settings.js';

/** Parsers of option values. Each throws commander's error, which names the option and ends with exit status 2. */

export const OUTPUT_FORMATS = ['table', 'json', 'name'] as const;
export type OutputFormat = (typeof OUTPUT_FORMATS)[number];

export function wholeNumber(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < min || value > max) {
      throw new InvalidArgumentError(`It must be a whole number from ${min} to ${max}.`);
    }
    return value;
  };
}

const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** `500ms`, `30s`, `5m`, `2h`, `1d`; a bare number is seconds. Returns milliseconds. */
export function durationMs(text: string): number {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)?$/.exec(text);
  if (match === null) throw new InvalidArgumentError('It must be a duration such as 500ms, 30s or 5m.');
  return Math.round(Number(match[1]) * (UNIT_MS[match[2] ?? 's'] ?? 1_000));
}

/** A duration that something may take: not nothing. */
export function budgetMs(text: string): number {
  const ms = durationMs(text);
  if (ms === 0) throw new InvalidArgumentError('It must be more than nothing, such as 500ms or 30s.');
  return ms;
}

/** `1s,10s`. Returns milliseconds. */
export function delaysMs(text: string): number[] {
  const delays = text.split(',').map((delay) => durationMs(delay.trim()));
  if (isRetryDelays(delays)) return delays;
  throw new InvalidArgumentError(`It must be 1 to ${RETRIES_MAX} durations of at most ${DELAY_MS_MAX / 3_600_000}h.`);
}

/** How old an async invocation may get. Returns milliseconds. */
export function ageMs(text: string): number {
  const ms = durationMs(text);
  if (ms >= AGE_MS_MIN && ms <= AGE_MS_MAX) return ms;
  throw new InvalidArgumentError(`It must be ${AGE_MS_MIN / 1_000}s to ${AGE_MS_MAX / 3_600_000}h.`);
}

/** `fn:<name>` or a URL: bare names are not taken, so that a URL without its scheme is not taken for one. */
export function destination(text: string): Destination {
  if (text.startsWith('fn:')) return { function: functionName(text.slice('fn:'.length)) };
  if (isWebUrl(text)) return { url: text };
  throw new InvalidArgumentError('It must be fn:<function>, or a URL that begins with https:// or http://.');
}

/** A duration before now, or a time. Returns ISO 8601 in UTC. */
export function pastTime(text: string): string {
  const isDuration = /^\d+(?:\.\d+)?(?:ms|s|m|h|d)$/.test(text);
  const at = isDuration ? Date.now() - durationMs(text) : Date.parse(text);
  if (Number.isNaN(at))
    throw new InvalidArgumentError('It must be a duration such as 10m, or a time such as 2026-01-31T12:00:00Z.');
  return new Date(at).toISOString();
}

export function idempotencyKey(text: string): string {
  if (!/^[\x20-\x7e]{1,255}$/.test(text))
    throw new InvalidArgumentError('It must be 1 to 255 printable ASCII characters.');
  return text;
}

export function functionName(text: string): string {
  if (!FUNCTION_NAME.test(text)) {
    throw new InvalidArgumentError('A function name has 1 to 64 letters, digits, "-" or "_".');
  }
  return text;
}

/** Collects repeated `-e KEY=VALUE`. The value may hold further `=`. */
export function environmentEntry(text: string, before: Readonly<Record<string, string>> = {}): Record<string, string> {
  const match = /^([A-Za-z_][A-Za-z0-9_]*)=([\s\S]*)$/.exec(text);
  if (match === null) throw new InvalidArgumentError('It must have the form KEY=VALUE.');
  return { ...before, [match[1] ?? '']: match[2] ?? '' };
}
