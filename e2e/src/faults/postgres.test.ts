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

  it('takes no more writes: callers are told so, calls of known functions go on, and all is well again by itself', async () => {
    rig = await FaultRig.start();
    const { cluster } = rig;
    await underLoad(1_000);
    await cluster.postgres.setReadOnly(true);
    const running = rig;
    await expect.poll(() => asyncStatus(running), { timeout: 20_000 }).toBe(503);
    await underLoad(4_000);
    await cluster.postgres.setReadOnly(false);
    await expect.poll(() => asyncStatus(running), { timeout: 30_000 }).toBe(202);
    await rig.serves();
    const verdict = await rig.judge();
    recordFault({ fault: 'PostgreSQL read-only', how: 'default_transaction_read_only for 4 s', verdict });
    expectSound(verdict);
    expect(verdict.syncAnswers).toEqual({});
  });

  it('has no disk left: callers are told so, and nothing that was accepted is lost', async () => {
    rig = await FaultRig.start({ diskMb: 256 });
    const { cluster } = rig;
    await underLoad(1_000);
    await cluster.disk.fill();
    const running = rig;
    await expect.poll(() => asyncStatus(running), { timeout: 60_000 }).toBe(503);
    await underLoad(3_000);
    await cluster.disk.clear();
    // It ends when it cannot write its log; whoever looks after it starts it again.
    if (await cluster.postgres.ended()) await cluster.postgres.start();
    await expect.poll(() => asyncStatus(running), { timeout: 60_000 }).toBe(202);
    await rig.serves();
    const verdict = await rig.judge();
    recordFault({ fault: 'PostgreSQL without disk', how: 'its 256 MB tmpfs filled for 3 s and more', verdict });
    expectSound(verdict);
    expect(verdict.syncAnswers).toEqual({});
  });
});
