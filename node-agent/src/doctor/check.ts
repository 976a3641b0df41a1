import { errorText } from '@lambda-fleet/common/errors';
import type { Finding } from '../drivers/docker/gvisor/runsc-entry.js';

export type CheckStatus = 'ok' | 'warning' | 'failed';

/** One line of the doctor's report. */
export interface Check {
  /** What was looked at, such as `disk`. */
  readonly name: string;
  readonly status: CheckStatus;
  /** What was found. */
  readonly detail: string;
  /** What to do about it; empty when nothing has to be done. */
  readonly advice: string;
}

/** What a check found: its detail when all is well. */
export type Found = string | Omit<Check, 'name'>;

export const warning = (detail: string, advice: string): Found => ({ status: 'warning', detail, advice });
export const failed = (detail: string, advice: string): Found => ({ status: 'failed', detail, advice });

/** Runs a check. One that throws has failed. */
export async function check(name: string, look: () => Found | Promise<Found>): Promise<Check> {
  try {
    const found = await look();
    return typeof found === 'string' ? { name, status: 'ok', detail: found, advice: '' } : { name, ...found };
  } catch (err) {
    return {
      name,
      status: 'failed',
      detail: errorText(err),
      advice: 'this was not expected; the text is all there is to go by',
    };
  }
}

/** Several findings about one thing as one: the worst of them decides. */
export function fromFindings(good: string, findings: readonly Finding[]): Found {
  if (findings.length === 0) return good;
  const status = findings.some(({ severity }) => severity === 'failed') ? 'failed' : 'warning';
  const relevant = findings.filter(({ severity }) => status === 'warning' || severity === 'failed');
  return {
    status,
    detail: `${good}: ${relevant.map(({ problem }) => problem).join('; ')}`,
    advice: relevant.map(({ advice }) => advice).join('; '),
  };
}

/** Whether a version such as `20.10.24+dfsg1` is at least `floor`, which is given in numbers. */
export function isAtLeast(version: string, floor: readonly number[]): boolean {
  const parts = version.match(/\d+/g)?.map(Number) ?? [];
  for (const [index, wanted] of floor.entries()) {
    const part = parts[index] ?? 0;
    if (part !== wanted) return part > wanted;
  }
  return true;
}
