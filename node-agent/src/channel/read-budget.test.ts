import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { ReadBudget } from './read-budget.js';

describe('ReadBudget', () => {
  beforeEach(() => {
    vi.useFakeTimers();
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  function budget() {
    const state = { reading: true };
    const limits = { perSecond: 1_000, burst: 500 };
    const reads = new ReadBudget({
      ...limits,
      pause: () => {
        state.reading = false;
      },
      resume: () => {
        state.reading = true;
      },
    });
    return { state, reads };
  }

  it('lets a burst through and then holds a flood to its rate', () => {
    const { state, reads } = budget();
    reads.spend(500);
    expect(state.reading).toBe(true);
    let read = 500;
    for (let ms = 0; ms < 10_000; ms += 10) {
      while (state.reading) {
        reads.spend(100);
        read += 100;
      }
      vi.advanceTimersByTime(10);
    }
    expect(read).toBeGreaterThan(9_000);
    expect(read).toBeLessThan(11_500);
  });

  it('pauses for as long as what was read already costs', () => {
    const { state, reads } = budget();
    reads.spend(2_500);
    vi.advanceTimersByTime(1_900);
    expect(state.reading).toBe(false);
    vi.advanceTimersByTime(200);
    expect(state.reading).toBe(true);
  });

  it('never pauses a source that stays below its rate', () => {
    const { state, reads } = budget();
    for (let i = 0; i < 1_000; i += 1) {
      reads.spend(90);
      expect(state.reading).toBe(true);
      vi.advanceTimersByTime(100);
    }
  });

  it('reads on at once when it is lifted, and never pauses again', () => {
    const { state, reads } = budget();
    reads.spend(1_000_000);
    expect(state.reading).toBe(false);
    reads.lift();
    expect(state.reading).toBe(true);
    reads.spend(1_000_000);
    expect(state.reading).toBe(true);
  });
});
