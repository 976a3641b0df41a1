import type { SelfTestCheck } from '@lambda-fleet/proto';
import { pino } from 'pino';
import { expect, it } from 'vitest';
import type { NodeEvents } from './node-events.js';
import type { NodeSession } from './node-session.js';
import type { NodeStore } from './node-store.js';
import { NodeTracker } from './node-tracker.js';

const check = (ms: number): SelfTestCheck => ({ isolation: 'runc', check: 'start', passed: true, detail: '', ms });

it('writes of an agent that reports without end the first report and the newest, and nothing in between', async () => {
  const written: number[] = [];
  const store = {
    recordSelfTest: async (_nodeId: string, checks: readonly SelfTestCheck[]) => {
      written.push(checks[0]?.ms ?? -1);
    },
  };
  const tracker = new NodeTracker({
    ...{ store: store as NodeStore, events: {} as NodeEvents, log: pino({ level: 'silent' }) },
    onRecorded: () => {},
  });
  const session = { nodeId: 'node-1', closed: false } as NodeSession;
  for (let n = 1; n <= 1_000; n += 1) tracker.selfTested(session, [check(n)]);
  await expect.poll(() => written, { timeout: 10_000 }).toEqual([1, 1_000]);
  tracker.close();
});
