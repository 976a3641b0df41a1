import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from '@lambda-fleet/common/logger';
import type { DrainRunner } from './node-drain.js';

export interface LeaveOptions {
  readonly runner: Pick<DrainRunner, 'refuse' | 'load'>;
  readonly link: {
    /** Undefined when nobody can hear of it. */
    anyReady(): object | undefined;
    refuseBuilds(reason: string): void;
    leave(boundMs: number): void;
  };
  readonly drain: { close(): void };
  /** How long what runs may take. */
  readonly leaveMs: number;
  /** Nobody wants to wait any more. */
  readonly hurried: AbortSignal;
  readonly log: Logger;
}

/** What was sent before the control plane heard of it arrives within this time, and is refused rather than lost. */
const UNDER_WAY_MS = 500;
const LOOK_MS = 20;

/**
 * Leaves the fleet with care: no new work, and what runs finishes within `leaveMs`. What is left then is the business of
 * whoever stops the sandboxes. Nothing is remembered of it: the next agent takes work. Never rejects.
 */
export async function leave({ runner, link, drain, leaveMs, hurried, log }: LeaveOptions): Promise<void> {
  const startedAt = performance.now();
  const reason = 'the agent is being stopped';
  drain.close();
  runner.refuse(reason);
  link.refuseBuilds(reason);
  const underWayMs = link.anyReady() === undefined ? 0 : UNDER_WAY_MS;
  link.leave(leaveMs);
  log.info({ ...runner.load(), leaveMs }, 'leaving');
  for (;;) {
    const passedMs = performance.now() - startedAt;
    const done = runner.load().inFlight === 0 && passedMs >= underWayMs;
    if (done || passedMs >= leaveMs || hurried.aborted) break;
    await sleep(LOOK_MS, undefined, { signal: hurried }).catch(() => {
      // Hurried: the next look ends it.
    });
  }
  log.info({ ...runner.load(), hurried: hurried.aborted }, 'left');
}
