import type { ResolvedVersion } from '../functions/resolved-version.js';
import type { PlacementFailure } from '../scheduling/placement.js';
import type { RefusalCode } from './invocation.js';

export interface Refusal {
  readonly code: RefusalCode;
  readonly retryAfterSeconds: number;
}

/** What was not started for want of a permit or of a place, as its caller is told. */
export interface Refused {
  readonly outcome: 'throttled' | 'not_started';
  readonly reason: string;
  readonly refusal: Refusal;
}

/** Room comes and goes within a second. */
const SOON_SECONDS = 1;
/** Somebody has to do something first: start a node, or raise a limit. */
const LATER_SECONDS = 10;

export const TOO_MANY_IN_PROGRESS: Refused = {
  outcome: 'throttled',
  reason: 'The control plane has as many invocations in progress as it allows.',
  refusal: { code: 'TooManyInvocationsInProgress', retryAfterSeconds: SOON_SECONDS },
};

/** @param missing what the nodes lack, when it is impossible */
export function placementFailed(
  failure: PlacementFailure,
  { limits }: ResolvedVersion,
  missing: string,
  lastRefusal: string,
): Refused {
  switch (failure) {
    case 'function_limit': {
      const off = limits.max === 0;
      return {
        outcome: 'throttled',
        reason: off
          ? 'Its reserved concurrency is 0, which switches it off.'
          : `It runs ${limits.max} times at once already, which is its ${limits.reserved ? 'reserved or maximum' : 'maximum'} concurrency.`,
        refusal: {
          code: 'ReservedFunctionConcurrentInvocationLimitExceeded',
          retryAfterSeconds: off ? LATER_SECONDS : SOON_SECONDS,
        },
      };
    }
    case 'account_limit':
      return {
        outcome: 'throttled',
        reason:
          'The functions of this project that have reserved no concurrency run as often at once as they may together.',
        refusal: { code: 'ConcurrentInvocationLimitExceeded', retryAfterSeconds: SOON_SECONDS },
      };
    case 'queue_full':
      return {
        outcome: 'throttled',
        reason: 'Too many invocations of this function, or of all, wait for a node already.',
        refusal: { code: 'WaitingQueueFull', retryAfterSeconds: SOON_SECONDS },
      };
    case 'impossible':
      return {
        outcome: 'not_started',
        reason: `No connected node offers ${missing}.`,
        refusal: { code: 'NoFittingNode', retryAfterSeconds: LATER_SECONDS },
      };
    case 'expired':
      return {
        outcome: 'not_started',
        reason: lastRefusal || 'No node had room for it in time, or none is connected.',
        refusal: { code: 'NoRoomInTime', retryAfterSeconds: SOON_SECONDS },
      };
  }
}
