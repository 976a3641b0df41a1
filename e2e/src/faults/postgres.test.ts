import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { recordFault } from './fault-report.js';
import { FaultRig, underLoad } from './fault-rig.js';
import { expectSound } from './verdict.js';

const RESTARTS = 5;

let rig: FaultRig | undefined;

afterEach(async () => {
  await rig?.cluster.postgres.resume();
  await rig?.dispose();
  rig = undefined;
});

/** What an async call is told while the database cannot store it. */
async function asyncStatus(running: FaultRig): Promise<number> {
  return (await running.cluster.api('POST', '/api/functions/works/invocations?mode=async', { n: -1 })).status;
}

describe('PostgreSQL under a load of sync and async calls', { timeout: 900_000 }, () => {
  it('is ended at once and started again and again: no process ends, and nothing accepted is lost', async () => {
    rig = await FaultRig.start();
    for (let restart = 0; restart < RESTARTS; restart += 1) {
      await underLoad(1_500);
      await rig.cluster.postgres.endImmediately();
      expect(await asyncStatus(rig)).toBe(503);
      await rig.cluster.postgres.start();
      await rig.serves();
    }
    const verdict = await rig.judge();
    recordFault({ fault: 'PostgreSQL ended', how: `immediate shutdown × ${RESTARTS}, under load`, verdict });
    expectSound(verdict);
    expect(verdict.syncAnswers, 'calls of a known function do not need the database').toEqual({});
  });

  it('freezes for longer than a lease: callers are answered, and nobody is fenced', async () => {
    rig = await FaultRig.start();
    const { cluster } = rig;
    await underLoad(2_000);
    await cluster.postgres.pause();
    expect(await asyncStatus(rig)).toBe(503);
    await sleep(55_000);
    await cluster.postgres.resume();
    await cluster.ready();
    await rig.serves();
    const verdict = await rig.judge();
    recordFault({ fault: 'PostgreSQL frozen', how: 'SIGSTOP for 55 s, longer than a lease', verdict });
    expectSound(verdict);
    expect(verdict.syncAnswers).toEqual({});
    expect(verdict.rerun).toBe(0);
  });
});
