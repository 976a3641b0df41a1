import { afterEach, describe, expect, it } from 'vitest';
import { recordFault } from './fault-report.js';
import { FaultRig, underLoad } from './fault-rig.js';
import { expectSound } from './verdict.js';

const FLUSHES = 100;

let rig: FaultRig | undefined;

afterEach(async () => {
  rig?.cluster.redis.resume();
  await rig?.dispose();
  rig = undefined;
});

describe('Redis under a load of sync and async calls', { timeout: 900_000 }, () => {
  it('is flushed again and again, frozen, killed and started empty: nothing is lost, and no call fails', async () => {
    rig = await FaultRig.start({ redis: true });
    const { redis } = rig.cluster;
    for (let flush = 0; flush < FLUSHES; flush += 1) {
      await redis.ask('FLUSHALL');
      await underLoad(20);
    }
    redis.pause();
    await rig.serves(40);
    redis.resume();
    await rig.serves();
    await redis.stop('SIGKILL');
    await rig.serves(40);
    await redis.start();
    await rig.serves(40);
    const verdict = await rig.judge();
    const how = `FLUSHALL × ${FLUSHES}, SIGSTOP, SIGKILL and a start without data, two control planes`;
    recordFault({ fault: 'Redis', how, verdict });
    expectSound(verdict);
    expect(verdict.rerun).toBe(0);
    expect(verdict.syncAnswers).toEqual({});
  });
});
