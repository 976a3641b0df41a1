import { isUtf8 } from 'node:buffer';
import { FaultOwner, type Receipt, type ResponseEnd, StartPath } from '@lambda-fleet/proto';
import type { ExecutionError, ExecutionReceipt } from '../db/schema.js';
import { storableError } from '../db/storable-error.js';
import { storableText } from '../db/storable-text.js';
import type { InvocationRequest, OutcomeName } from './invocation.js';

/** Input and output are kept up to this many bytes; longer ones are left out. */
const KEPT_BYTES_MAX = 64 * 1024;

/** One row of `executions` before it is written. Times are epoch milliseconds. */
export interface ExecutionRecord {
  readonly id: string;
  readonly projectId: string;
  readonly functionId: string;
  readonly functionName: string;
  readonly versionId: string;
  readonly versionNumber: number;
  readonly trigger: string;
  readonly epoch: number;
  readonly outcome: OutcomeName;
  readonly statusCode: number | undefined;
  readonly error: ExecutionError | undefined;
  readonly receipt: ExecutionReceipt;
  readonly nodeId: string | undefined;
  readonly input: string | undefined;
  readonly output: string | undefined;
  readonly startedAtMs: number;
  readonly finishedAtMs: number;
}

/** The phases that the control plane times itself. Milliseconds. */
export interface ControlPlanePhases {
  readonly resolveMs: number;
  readonly receiveMs: number;
  readonly admitMs: number;
  readonly placeMs: number;
  readonly totalMs: number;
}

const START_NAMES = { [StartPath.WARM]: 'warm', [StartPath.BLANK]: 'blank', [StartPath.COLD]: 'cold' } as const;

export function toExecutionReceipt(
  receipt: Receipt | undefined,
  memoryMb: number,
  phases: ControlPlanePhases | undefined,
): ExecutionReceipt {
  if (receipt === undefined) return { ...phases, memoryMb };
  const start = START_NAMES[receipt.start as keyof typeof START_NAMES] as ExecutionReceipt['start'];
  return {
    ...phases,
    start,
    sandboxId: receipt.sandboxId,
    queueMs: receipt.queueUs / 1000,
    sandboxMs: start === 'warm' ? undefined : receipt.sandboxUs / 1000,
    initMs: start === 'warm' ? undefined : receipt.initUs / 1000,
    runMs: receipt.runUs / 1000,
    cpuMs: receipt.cpuUs === 0 ? undefined : receipt.cpuUs / 1000,
    memoryPeakBytes: receipt.memoryPeakBytes === 0 ? undefined : receipt.memoryPeakBytes,
    memoryMb,
    shared: receipt.shared ? true : undefined,
    isolation: receipt.isolation === '' ? undefined : receipt.isolation,
    fault: faultName(receipt.fault),
  };
}

/** The function's error as it is stored, or undefined when there was none. */
export function toExecutionError(end: ResponseEnd): ExecutionError | undefined {
  return end.error && storableError(end.error);
}

/** The bytes as text, or undefined when they are too long or no text. */
export function storableBytes(bytes: Buffer): string | undefined {
  if (bytes.length === 0 || bytes.length > KEPT_BYTES_MAX || !isUtf8(bytes)) return undefined;
  return storableText(bytes.toString('utf8'));
}

/** Invocations that leave no execution behind: code checks at deploy, and tests of code that is not deployed. */
export function leavesNoExecution(trigger: InvocationRequest['trigger'] | string): boolean {
  return trigger === 'deploy' || trigger === 'test';
}

function faultName(fault: FaultOwner): ExecutionReceipt['fault'] {
  if (fault === FaultOwner.FUNCTION) return 'function';
  return fault === FaultOwner.PLATFORM ? 'platform' : undefined;
}
