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

  /** Counts processor time and peak memory from here. */
  begin(sandbox: Sandbox, start: StartPath): void {
    this.#sandbox = sandbox;
    this.start = start;
    sandbox.resetPeak();
    this.#before = sandbox.usage();
  }

  /** Takes the final measurement; the first one that succeeds counts, because a sandbox that ended has none. */
  finish(): void {
    this.#after ??= this.#sandbox?.usage();
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
      shared: false,
      isolation: '',
    };
  }
}

export function microsecondsSince(start: number): number {
  return Math.max(0, Math.round((performance.now() - start) * 1000));
}
