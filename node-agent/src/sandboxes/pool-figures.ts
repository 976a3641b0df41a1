import type { Sandbox } from './sandbox.js';
import type { SandboxState } from './sandbox-states.js';

/** A pool at one moment, for metrics. */
export interface PoolFigures {
  /** Sandboxes in each state that any is in; a blank that boots counts as creating. */
  readonly states: ReadonlyMap<SandboxState, number>;
  readonly frozen: number;
  readonly memoryPromisedBytes: number;
  readonly memoryTotalBytes: number;
  /** Quarantined ones, and those that belong to nobody. */
  readonly leaked: number;
}

export function countSandboxes(all: Iterable<Sandbox>): Pick<PoolFigures, 'states' | 'frozen'> {
  const states = new Map<SandboxState, number>();
  let frozen = 0;
  for (const sandbox of all) {
    states.set(sandbox.state, (states.get(sandbox.state) ?? 0) + 1);
    if (sandbox.frozen) frozen += 1;
  }
  return { states, frozen };
}
