import { createLogger } from '@lambda-fleet/common/logger';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { LeaseWatch } from './lease-watch.js';

/** A watch whose machine's clock is the test's. */
function watch() {
  const machine = { nowMs: 1_000_000, ended: 0 };
  const created = new LeaseWatch({
    onOver: () => {
      machine.ended += 1;
    },
    clockMs: () => machine.nowMs,
    log: createLogger('test', 'silent'),
  });
  created.start();
  /** Both the process and the machine go on. */
  const pass = (ms: number) => {
    machine.nowMs += ms;
    vi.advanceTimersByTime(ms);
  };
  const renewed = (heardMs = machine.nowMs) => created.told({ epoch: 1, validMs: 35_000, heardMs });
  return { created, machine, pass, renewed };
}

describe('LeaseWatch', () => {
  beforeEach(() => {
    vi.useFakeTimers();
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  it('never ends the work of a node that has heard of no lease', () => {
    const { created, machine, pass } = watch();
    pass(3_600_000);
    expect([created.over, machine.ended]).toEqual([false, 0]);
  });

  it('ends the work once when no replica renews, and takes work again when one does', () => {
    const { created, machine, pass, renewed } = watch();
    renewed();
    pass(34_000);
    expect(created.over).toBe(false);
    pass(60_000);
    expect([created.over, machine.ended]).toEqual([true, 1]);
    renewed();
    expect(created.over).toBe(false);
    pass(36_000);
    expect(machine.ended).toBe(2);
  });

  it('is held as long as any replica renews, whatever the others said', () => {
    const { created, pass, renewed } = watch();
    for (let i = 0; i < 20; i += 1) {
      renewed();
      // Of a slower replica.
      renewed(0);
      pass(5_000);
    }
    expect(created.over).toBe(false);
  });

  it('finds out before anything is sent when the process stood still', () => {
    const { created, machine, renewed } = watch();
    renewed();
    // No timer runs while a process is stopped.
    machine.nowMs += 60_000;
    vi.setSystemTime(Date.now() + 60_000);
    created.checkAfterPause();
    expect([created.over, machine.ended]).toEqual([true, 1]);
  });

  it('does not take what was under way meanwhile for a renewal', () => {
    const { created, machine, renewed } = watch();
    renewed();
    const sentBefore = machine.nowMs + 4_000;
    machine.nowMs += 60_000;
    vi.setSystemTime(Date.now() + 60_000);
    renewed(sentBefore);
    expect([created.over, machine.ended]).toEqual([true, 1]);
    // One that answers what was sent after waking is news.
    renewed();
    expect(created.over).toBe(false);
  });

  it('does not care for the wall clock', () => {
    const { created, pass, renewed } = watch();
    renewed();
    vi.setSystemTime(Date.now() + 7_200_000);
    pass(10_000);
    vi.setSystemTime(Date.now() - 14_400_000);
    pass(10_000);
    created.checkAfterPause();
    expect(created.over).toBe(false);
  });
});
