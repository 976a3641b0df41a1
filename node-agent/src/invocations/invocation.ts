import type { Invoke, LogLine, RefusalReason, ResponseEnd, VersionSpec } from '@lambda-fleet/proto';

/** One invocation as the link hands it over: complete, with its whole payload. */
export interface AgentInvocation {
  readonly invoke: Invoke;
  readonly spec: VersionSpec;
  /** At most PAYLOAD_BYTES_MAX. */
  readonly payload: Buffer;
  /** `performance.now()` when its last byte arrived. */
  readonly arrivedAt: number;
}

/**
 * Where the runner tells what became of invocations. For each one exactly one of
 * `refused` or `ended` is called. Its log lines come before `ended`, except output written straight to file
 * descriptors 1 and 2: engines deliver that late, and no result waits for it.
 */
export interface InvocationSink {
  /** Attests that no byte of the payload entered a sandbox. */
  refused(invocation: AgentInvocation, reason: RefusalReason, detail: string): void;
  log(line: LogLine): void;
  /** `end.body` is whole, whatever its size; the link decides how it travels. */
  ended(end: ResponseEnd): void;
}

/** Streams the archive of a version's code from the control plane, in order. */
export type FetchArtifact = (sha256: string) => AsyncIterable<Uint8Array>;
