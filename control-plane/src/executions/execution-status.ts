import type { OutcomeName } from '../invocations/invocation.js';

/** What became of an execution, in the words that jobs have. */
export type ExecutionStatus = 'succeeded' | 'failed' | 'timed_out' | 'throttled' | 'not_started' | 'unknown';

const STATUS_OF: Readonly<Record<OutcomeName, ExecutionStatus>> = {
  success: 'succeeded',
  function_error: 'failed',
  timeout: 'timed_out',
  throttled: 'throttled',
  not_started: 'not_started',
  outcome_unknown: 'unknown',
};

export const OUTCOMES = Object.keys(STATUS_OF) as readonly OutcomeName[];
export const STATUSES = Object.values(STATUS_OF);

export function statusOf(outcome: OutcomeName): ExecutionStatus {
  return STATUS_OF[outcome];
}

export function outcomeOf(status: ExecutionStatus | undefined): OutcomeName | undefined {
  return OUTCOMES.find((outcome) => STATUS_OF[outcome] === status);
}
