import { setTimeout as sleep } from 'node:timers/promises';
import { ApiError } from '../api/client.js';
import type { NodeResource, NodesApi } from '../api/nodes.js';
import { CliError } from '../cli-error.js';
import type { Output } from '../output.js';
import { countText, durationText, printable } from '../terminal-text.js';

export interface WatchedDrain {
  readonly nodeId: string;
  readonly drainId: string;
}

/** How a drain ended. */
export interface EndedDrain {
  readonly node: string;
  /** `complete`, `lost`, `cancelled`. */
  readonly state: string;
  readonly deadlineReached: boolean;
  readonly killed: number;
  readonly requeued: number;
  readonly tookMs: number;
}

const LOOK_MS = 1_000;
/** A control plane that is started again, or whose database is, is away for less. */
const AWAY_MS_MAX = 120_000;

/** Waits until all have ended, and says on standard error what is left. `interrupted` after a Ctrl-C: the drains go on. */
export async function watchDrains(
  api: NodesApi,
  drains: readonly WatchedDrain[],
  output: Output,
): Promise<readonly EndedDrain[] | 'interrupted'> {
  const interrupt = new AbortController();
  const stop = (): void => interrupt.abort();
  process.once('SIGINT', stop);
  try {
    const ended = drains.map((drain) => watchOne(api, drain, output, interrupt.signal));
    const all = await Promise.all(ended);
    const known = all.filter((one) => one !== undefined);
    return known.length === all.length ? known : 'interrupted';
  } finally {
    process.off('SIGINT', stop);
  }
}

/** Undefined when it was interrupted. */
async function watchOne(
  api: NodesApi,
  { nodeId, drainId }: WatchedDrain,
  output: Output,
  interrupted: AbortSignal,
): Promise<EndedDrain | undefined> {
  let said = '';
  let answeredAt = performance.now();
  while (!interrupted.aborted) {
    const node = await lookAt(api, nodeId, answeredAt);
    if (node !== undefined) {
      answeredAt = performance.now();
      const ended = endOf(node, drainId);
      if (ended !== undefined) return ended;
      const now = progressText(node);
      if (now !== said) output.note(`${nodeId}: ${now}${leftText(node)}`);
      said = now;
    }
    await sleep(LOOK_MS, undefined, { signal: interrupted }).catch(() => {
      // Interrupted: the loop ends.
    });
  }
  return undefined;
}

/** Undefined while nobody answers. */
async function lookAt(api: NodesApi, nodeId: string, answeredAt: number): Promise<NodeResource | undefined> {
  try {
    return await api.get(nodeId);
  } catch (err) {
    const passing = err instanceof ApiError ? err.status >= 500 : err instanceof CliError;
    if (passing && performance.now() - answeredAt < AWAY_MS_MAX) return undefined;
    throw err;
  }
}

function endOf({ id, drain }: NodeResource, drainId: string): EndedDrain | undefined {
  if (drain !== null && drain.id === drainId && drain.state === 'draining') return undefined;
  // Another drain has begun: this one was cancelled before.
  const same = drain !== null && drain.id === drainId ? drain : undefined;
  const { deadlineReached = false, killed = 0, requeued = 0 } = same?.result ?? {};
  const tookMs = same?.endedAt == null ? 0 : Date.parse(same.endedAt) - Date.parse(same.startedAt);
  return { node: id, state: printable(same?.state ?? 'cancelled'), deadlineReached, killed, requeued, tookMs };
}

function progressText({ connected, drain }: NodeResource): string {
  if (!connected) return 'not connected';
  if (drain?.progress == null) return 'told to drain';
  const { inFlight, sandboxes } = drain.progress;
  const late = drain.result.deadlineReached ? '; the deadline is reached' : '';
  return `${inFlight} in flight, ${countText(sandboxes, 'sandbox', 'sandboxes')} left${late}`;
}

function leftText({ connected, drain }: NodeResource): string {
  const { inFlight = 0, inFlightMs = 0 } = drain?.progress ?? {};
  return connected && inFlight > 0 ? `, over in ${durationText(inFlightMs)} at the latest` : '';
}
