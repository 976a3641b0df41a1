import { createLogger } from '@lambda-fleet/common/logger';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { LongRuns } from './long-runs.js';
import type { Sandbox } from './sandbox.js';
import type { SandboxState } from './sandbox-states.js';

const PERIOD_MS = 100;

/** Uses so much of a processor. */
class Computing {
  state: SandboxState = 'idle';
  share = 0;
  cpuUs: number | undefined = 0;
  readonly said: boolean[] = [];
  readonly id = 'computing';
  readonly resources = {
    usage: () => (this.cpuUs === undefined ? undefined : { cpuUs: this.cpuUs, memoryPeakBytes: 0 }),
    resetPeak: () => {},
    yieldProcessor: (yielding: boolean) => {
      this.said.push(yielding);
    },
  };

  get asSandbox(): Sandbox {
    return this as unknown as Sandbox;
  }

  async run(periods: number): Promise<void> {
    for (let period = 0; period < periods; period += 1) {
      if (this.cpuUs !== undefined) this.cpuUs += PERIOD_MS * 1_000 * this.share;
      await vi.advanceTimersByTimeAsync(PERIOD_MS);
    }
  }
}

describe('LongRuns', () => {
  let runs: LongRuns;
  let sandbox: Computing;
  beforeEach(() => {
    vi.useFakeTimers();
    runs = new LongRuns(createLogger('test', 'silent'));
    sandbox = new Computing();
  });
  afterEach(() => {
    runs.close();
    vi.useRealTimers();
  });

  const become = (state: SandboxState): void => {
    sandbox.state = state;
    runs.update(sandbox.asSandbox);
  };

  it('makes a sandbox yield that computes on and on, and not any more once it is idle', async () => {
    sandbox.share = 1;
    become('busy');
    await sandbox.run(3);
    expect(sandbox.said).toEqual([true]);
    become('idle');
    expect(sandbox.said).toEqual([true, false]);
    become('busy');
    await sandbox.run(3);
    expect(sandbox.said).toEqual([true, false, true]);
  });

  it('leaves one alone that mostly waits, and one that was called a moment ago', async () => {
    sandbox.share = 0.1;
    become('busy');
    await sandbox.run(10);
    become('idle');
    sandbox.share = 1;
    for (let call = 0; call < 20; call += 1) {
      become('busy');
      await sandbox.run(1);
      become('idle');
    }
    expect(sandbox.said).toEqual([]);
  });

  it('lets one go on that has stopped computing', async () => {
    sandbox.share = 1;
    become('busy');
    await sandbox.run(3);
    sandbox.share = 0;
    await sandbox.run(1);
    expect(sandbox.said).toEqual([true, false]);
  });

  it('says nothing of one that cannot be measured or has ended, and keeps no timer', async () => {
    sandbox.cpuUs = undefined;
    become('busy');
    await sandbox.run(5);
    expect(sandbox.said).toEqual([]);
    become('stopping');
    await sandbox.run(2);
    expect(vi.getTimerCount()).toBe(0);
  });
});
