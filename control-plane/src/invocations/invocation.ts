import type { FunctionError, HttpHead, InvokeKind } from '@lambda-fleet/proto';
import type { ExecutionReceipt } from '../db/schema.js';
import type { ResolvedVersion } from '../functions/resolved-version.js';
import type { Trigger } from './trigger.js';

export type OutcomeName = 'success' | 'function_error' | 'timeout' | 'throttled' | 'not_started' | 'outcome_unknown';

/** Why an invocation was not started, for programs: those that AWS has by its names. */
export type RefusalCode =
  | 'ReservedFunctionConcurrentInvocationLimitExceeded'
  | 'ConcurrentInvocationLimitExceeded'
  | 'TooManyInvocationsInProgress'
  | 'WaitingQueueFull'
  | 'NoRoomInTime'
  | 'NoFittingNode';

export interface InvocationRequest {
  /** UUID of version 7; the request id that the runtime sees. */
  readonly id: string;
  readonly kind: InvokeKind;
  readonly trigger: Trigger;
  /** The event's bytes, at most PAYLOAD_BYTES_MAX. Never parsed on this path. */
  readonly payload: Buffer;
  readonly traceId: string;
  /** JSON text, or empty. */
  readonly clientContext: string;
  /** Destroys the sandbox afterwards and never takes a used one. */
  readonly singleUse: boolean;
  /** `performance.now()` when the request arrived, for the total in the receipt. */
  readonly arrivedAt: number;
  /** How long RESOLVE took, milliseconds. */
  readonly resolveMs: number;
  /** How long the request's body took to arrive, milliseconds. */
  readonly receiveMs: number;
  /**
   * Awaited before it is sent to a node, each time that it is: what has to be durable before anything can run is
   * written here. False gives the invocation up, not started. Never rejects.
   */
  readonly beforeSend?: (node: SentTo) => Promise<boolean>;
  /**
   * Set for an attempt at something that is queued: its number, whether it may run beside others, and that whoever queued it writes down how it ended and then
   * calls the result's `acknowledge`. Not starting is no news then.
   */
  readonly attempt?: { readonly epoch: number; readonly alone: boolean };
  /** Cancels it: a wait ends as not started, and what runs is stopped by its agent, whose answer is the outcome. */
  readonly signal?: AbortSignal;
}

/** A node, and the start of its agent: another `bootId` knows nothing of what was sent to this one. */
export interface SentTo {
  readonly nodeId: string;
  readonly bootId: string;
}

/** How an invocation ended for its caller. Never an exception: every outcome is an answer. */
export interface InvocationResult {
  readonly id: string;
  readonly outcome: OutcomeName;
  readonly version: ResolvedVersion;
  /** Present when an HTTP event succeeded. */
  readonly http?: HttpHead;
  /** The response's bytes; empty unless the outcome is success. */
  readonly body: Buffer;
  /** Present for function_error and timeout. */
  readonly error?: FunctionError;
  /** Present for throttled, not_started and outcome_unknown: why, for the caller. */
  readonly reason?: string;
  /** The same for programs, with throttled and with not_started where it was for want of a place. */
  readonly refusal?: RefusalCode;
  /** Seconds after which a caller may try again; with throttled and not_started. */
  readonly retryAfterSeconds?: number;
  readonly receipt: ExecutionReceipt;
  readonly nodeId?: string;
  /** The node's own word. Without it, outcome_unknown means that it may be running still. */
  readonly attested: boolean;
  /** Of an `attempt` that a node answered: tells it that the result is committed. */
  readonly acknowledge?: () => void;
}

/** ADMIT, PLACE, DISPATCH and RETURN of one invocation. */
export type Invoke = (version: ResolvedVersion, request: InvocationRequest) => Promise<InvocationResult>;
