import { afterEach, describe, expect, it } from 'vitest';
import { recordFault } from './fault-report.js';
import { FaultRig, underLoad } from './fault-rig.js';
import { expectSound } from './verdict.js';

/** Long enough that some are running whenever a node is lost. */
const BODY = 'await new Promise((r) => setTimeout(r, 400)); return event.n;';

const CABLES = [
  { driver: 'process', cable: true },
  { driver: 'process', cable: true },
] as const;

let rig: FaultRig | undefined;

afterEach(async () => {
  for (const agent of rig?.cluster.agents ?? []) agent.process.resume();
  await rig?.dispose();
  rig = undefined;
});

describe('a node that is away for longer than its lease', { timeout: 900_000 }, () => {
  it('because its agent was frozen: its work is run again once, and its late results change nothing', async () => {
    rig = await FaultRig.start({ body: BODY });
    await underLoad(2_000);
    const agent = await rig.busiest();
    agent.process.pause();
    await underLoad(60_000);
    agent.process.resume();
    await rig.serves();
    const verdict = await rig.judge();
    recordFault({ fault: 'zombie agent', how: 'SIGSTOP for 60 s, one of two', verdict });
    expectSound(verdict);
    expect(verdict.rerun).toBeGreaterThan(0);
  });

  it.each([30_000, 120_000])('because its cable was cut for %i ms', async (ms) => {
    rig = await FaultRig.start({ body: BODY, agents: CABLES });
    await underLoad(2_000);
    const { cable } = await rig.busiest();
    await cable?.cut('all');
    await underLoad(ms);
    await cable?.heal();
    await rig.serves();
    const verdict = await rig.judge();
    recordFault({ fault: `partition, ${ms / 1_000} s`, how: 'both ways, nftables in a network namespace', verdict });
    expectSound(verdict);
    // Its lease outlasts the short one.
    if (ms < 35_000) expect(verdict.rerun).toBe(0);
    else expect(verdict.rerun).toBeGreaterThan(0);
  });

  it('because it was killed and came back after a minute', async () => {
    rig = await FaultRig.start({ body: BODY });
    await underLoad(2_000);
    const { process: agent } = await rig.busiest();
    await agent.stop('SIGKILL');
    await underLoad(60_000);
    await agent.start();
    await rig.serves();
    const verdict = await rig.judge();
    recordFault({ fault: 'agent SIGKILL', how: 'one of two, restarted after 60 s', verdict });
    expectSound(verdict);
  });
});
