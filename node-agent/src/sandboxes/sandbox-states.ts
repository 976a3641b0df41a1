import type { ProtocolViolation } from '../channel/protocol-violation.js';
import type { SandboxExit } from '../drivers/sandbox-driver.js';

export type SandboxState =
  | 'creating'
  | 'blank'
  | 'specialising'
  | 'idle'
  | 'busy'
  | 'stopping'
  | 'gone'
  | 'quarantined';

export const NEXT_STATES: Readonly<Record<SandboxState, readonly SandboxState[]>> = {
  creating: ['blank', 'stopping'],
  blank: ['specialising', 'stopping'],
  specialising: ['idle', 'stopping'],
  idle: ['busy', 'stopping'],
  busy: ['idle', 'stopping'],
  stopping: ['gone', 'quarantined'],
  gone: [],
  quarantined: ['gone'],
};

/** Why the agent itself ends a sandbox. */
export type StopReason =
  | 'deadline'
  | 'init_deadline'
  | 'init_failed'
  | 'boot_failed'
  | 'cancelled'
  | 'keep_alive_over'
  | 'evicted'
  | 'forgotten'
  | 'not_kept'
  | 'agent_stopping'
  /** The deadline of its node's drain. */
  | 'drained';

/** How a sandbox came to its end. */
export type SandboxEnd =
  | { readonly kind: 'stopped'; readonly reason: StopReason }
  | { readonly kind: 'violation'; readonly violation: ProtocolViolation }
  /** By itself; `exit` is undefined when it hung up and then did not end. */
  | { readonly kind: 'exit'; readonly exit: SandboxExit | undefined };

/** It is ending, or has ended: nothing more can be asked of it. */
export function isEnding(state: SandboxState): boolean {
  return state === 'stopping' || state === 'gone' || state === 'quarantined';
}
