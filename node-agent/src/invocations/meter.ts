import { type FaultOwner, type Receipt, StartPath } from '@lambda-fleet/proto';
import type { SandboxUsage } from '../drivers/sandbox-driver.js';
import type { Sandbox } from '../sandboxes/sandbox.js';

/** Collects what one attempt costs. Times are `performance.now()`, durations of the receipt microseconds. */
export class Meter {
  queueUs = 0;
  sandboxUs = 0;
  initUs = 0;
  runUs = 0;
  start: StartPath = StartPath.UNSPECIFIED;
  #sandbox: Sandbox | undefined;
  #before: SandboxUsage | undefined;
  #after: SandboxUsage | undefined;
  /** Whether the sandbox ran anything else meanwhile. */
  #shared = false;
  #begunBefore = 0;

  /** Counts processor time and peak memory from here, which is just before the sandbox is given the invocation. */
  begin(sandbox: Sandbox): void {
    this.#sandbox = sandbox;
    this.#shared = sandbox.inFlight > 0;
    this.#begunBefore = sandbox.invocationsBegun;
    if (!this.#shared) sandbox.resources?.resetPeak();
    this.#before = sandbox.resources?.usage();
  }

  /** Takes the final measurement; the first one that succeeds counts, because a sandbox that ended has none. */
  finish(): void {
    this.#after ??= this.#sandbox?.resources?.usage();
    // One of those that began is this one.
    this.#shared ||= (this.#sandbox?.invocationsBegun ?? 0) > this.#begunBefore + 1;
  }

  receipt(fault: FaultOwner): Receipt {
    const used = this.#after === undefined ? 0 : this.#after.cpuUs - (this.#before?.cpuUs ?? 0);
    return {
      start: this.start,
      sandboxId: this.#sandbox?.id ?? '',
      queueUs: this.queueUs,
      sandboxUs: this.sandboxUs,
      initUs: this.initUs,
      runUs: this.runUs,
      cpuUs: Math.max(0, used),
      memoryPeakBytes: this.#after?.memoryPeakBytes ?? 0,
      fault,
      shared: this.#shared,
      isolation: this.#sandbox?.kind.isolation ?? '',
    };
  }
}

export function microsecondsSince(start: number): number {
  return Math.max(0, Math.round((performance.now() - start) * 1000));
}
