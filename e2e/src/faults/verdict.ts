import { expect } from 'vitest';
import type { Run } from '../fleet/run-ledger.js';

/** How one invocation ended, by the API. */
export interface EndedInvocation {
  readonly id: string;
  readonly outcome: string;
  readonly epoch: number;
}

/** A sync call, as its caller saw it. */
export interface SyncCall {
  /** Empty when no answer came. */
  readonly id: string;
  /** The status and the outcome, or why the connection broke. */
  readonly what: string;
  readonly succeeded: boolean;
}

/** What a load left behind. */
export interface Leftovers {
  /** Every id of a 202. */
  readonly accepted: readonly string[];
  readonly executions: ReadonlyMap<string, EndedInvocation>;
  readonly dead: ReadonlySet<string>;
  readonly runs: ReadonlyMap<string, readonly Run[]>;
  readonly calls: readonly SyncCall[];
  /** Processes that ended although nobody stopped them. */
  readonly ended: readonly string[];
}

/** The oracle's answer: figures, and everything that must not be. */
export interface Verdict {
  readonly accepted: number;
  readonly succeeded: number;
  readonly dead: number;
  /** Run more than once, each time under an epoch of its own. */
  readonly rerun: number;
  readonly syncCalls: number;
  readonly syncFailed: number;
  /** What failed calls were told, with how many were told it. */
  readonly syncAnswers: Readonly<Record<string, number>>;
  readonly lost: readonly string[];
  /** More runs than epochs. */
  readonly overrun: readonly string[];
  /** A run that began while another of the same id had not ended. */
  readonly overlapping: readonly string[];
  readonly syncTwice: readonly string[];
  readonly ended: readonly string[];
}

export function judge({ accepted, executions, dead, runs, calls, ended }: Leftovers): Verdict {
  const of = (id: string): readonly Run[] => runs.get(id) ?? [];
  const succeeded = accepted.filter((id) => executions.get(id)?.outcome === 'success');
  const failed = calls.filter((call) => !call.succeeded);
  const syncAnswers: Record<string, number> = {};
  for (const { what } of failed) syncAnswers[what] = (syncAnswers[what] ?? 0) + 1;
  return {
    accepted: accepted.length,
    succeeded: succeeded.length,
    dead: accepted.filter((id) => dead.has(id)).length,
    rerun: accepted.filter((id) => of(id).length > 1).length,
    syncCalls: calls.length,
    syncFailed: failed.length,
    syncAnswers,
    lost: accepted.filter((id) => executions.get(id)?.outcome !== 'success' && !dead.has(id)),
    overrun: accepted.filter((id) => of(id).length > (executions.get(id)?.epoch ?? 0)),
    overlapping: [...runs].filter(([, each]) => each.some(overlapsNext)).map(([id]) => id),
    syncTwice: calls.filter(({ id }) => id !== '' && of(id).length > 1).map(({ id }) => id),
    ended,
  };
}

/** One whose sandbox was killed has no end, and the next one began after its agent was gone. */
function overlapsNext({ until }: Run, at: number, all: readonly Run[]): boolean {
  const next = all[at + 1];
  return until !== undefined && next !== undefined && next.from < until;
}

/** What holds whatever breaks. */
export function expectSound(verdict: Verdict): void {
  expect(verdict.accepted).toBeGreaterThan(0);
  expect(verdict.lost, 'accepted, and neither a success nor in the dead letters').toEqual([]);
  expect(verdict.overrun, 'more runs than epochs').toEqual([]);
  expect(verdict.overlapping, 'runs of one id at the same time').toEqual([]);
  expect(verdict.syncTwice, 'sync calls that ran more than once').toEqual([]);
  expect(verdict.ended, 'processes that ended by themselves').toEqual([]);
}
