import { FaultOwner, type Receipt, type ResponseEnd, StartPath } from '@lambda-fleet/proto';
import type { ExecutionError, ExecutionReceipt } from '../db/schema.js';
import { storableError } from '../db/storable-error.js';

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

/** How long an attempt took on its node, milliseconds. */
export function elapsedMs(receipt: Receipt | undefined): number {
  return receipt ? (receipt.queueUs + receipt.sandboxUs + receipt.initUs + receipt.runUs) / 1_000 : 0;
}

/** The function's error as it is stored, or undefined when there was none. */
export function toExecutionError(end: ResponseEnd): ExecutionError | undefined {
  return end.error && storableError(end.error);
}

function faultName(fault: FaultOwner): ExecutionReceipt['fault'] {
  if (fault === FaultOwner.FUNCTION) return 'function';
  return fault === FaultOwner.PLATFORM ? 'platform' : undefined;
}
