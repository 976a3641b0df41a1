/**
 * How many more invocations a lane with `held` in progress may take while `free` places are left: as many as keep it at no
 * more than three times what then remains free.
 *
 * One lane alone gets three quarters of all places, two get three sevenths each: whatever they do, a lane that has nothing
 * in progress finds a place, or gets the next one. (The rule of dynamic thresholds, from buffers of network switches.)
 */
export function shareOf(held: number, free: number): number {
  const more = Math.floor((THRESHOLD * free - held) / (THRESHOLD + 1));
  return Math.max(held === 0 ? 1 : 0, Math.min(free, more));
}

const THRESHOLD = 3;
