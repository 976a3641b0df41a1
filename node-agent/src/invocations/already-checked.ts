import { FaultOwner, Outcome, type ResponseEnd, StartPath } from '@lambda-fleet/proto';
import type { AgentInvocation } from './invocation.js';
import { microsecondsSince } from './meter.js';

/** The end of a CHECK whose version has an idle sandbox here: its code has been loaded, and loading it again proves nothing. */
export function alreadyChecked({ invoke, spec, arrivedAt }: AgentInvocation, sandboxId: string): ResponseEnd {
  return {
    invocationId: invoke.invocationId,
    epoch: invoke.epoch,
    versionId: spec.versionId,
    projectId: spec.projectId,
    functionId: spec.functionId,
    trigger: invoke.trigger,
    startedAtUnixMs: Date.now(),
    outcome: Outcome.SUCCESS,
    bodyBytes: 0,
    bodyStreamed: false,
    body: Buffer.alloc(0),
    receipt: {
      start: StartPath.WARM,
      sandboxId,
      queueUs: microsecondsSince(arrivedAt),
      sandboxUs: 0,
      initUs: 0,
      runUs: 0,
      cpuUs: 0,
      memoryPeakBytes: 0,
      fault: FaultOwner.UNSPECIFIED,
      shared: false,
      isolation: '',
    },
    replayed: false,
    functionName: spec.functionName,
    versionNumber: spec.versionNumber,
    memoryMb: spec.memoryMb,
    kind: invoke.kind,
    grant: invoke.grant,
  };
}
