import { afterEach, describe, expect, it } from 'vitest';
import { recordFault } from './fault-report.js';
import { FaultRig, underLoad } from './fault-rig.js';
import { expectSound } from './verdict.js';

let rig: FaultRig | undefined;

afterEach(async () => {
  await rig?.dispose();
  rig = undefined;
});

describe('under a load of sync and async calls', { timeout: 900_000 }, () => {
  it('a control plane is killed: agents serve through the other one, and nothing accepted is lost', async () => {
    rig = await FaultRig.start();
    for (const { process: replica } of rig.cluster.replicas) {
      await underLoad(2_000);
      await replica.stop('SIGKILL');
      await rig.serves();
      await replica.start();
      await rig.cluster.ready();
    }
    const verdict = await rig.judge();
    recordFault({ fault: 'control plane SIGKILL', how: 'each of two in turn, under load', verdict });
    expectSound(verdict);
    for (const what of Object.keys(verdict.syncAnswers)) expect(what).toMatch(/ECONNRESET|socket hang up/);
  });

  it('a control plane freezes: agents serve through the other one', async () => {
    rig = await FaultRig.start();
    const [frozen] = rig.cluster.replicas;
    await underLoad(2_000);
    frozen?.process.pause();
    await rig.serves();
    await underLoad(8_000);
    frozen?.process.resume();
    await rig.cluster.ready();
    await rig.serves();
    const verdict = await rig.judge();
    recordFault({ fault: 'control plane frozen', how: 'SIGSTOP for 8 s, one of two', verdict });
    expectSound(verdict);
  });

  it('an agent is killed and comes back: its work is run again once, under another epoch', async () => {
    rig = await FaultRig.start();
    for (const { process: agent } of rig.cluster.agents) {
      await underLoad(2_000);
      await agent.stop('SIGKILL');
      await underLoad(3_000);
      await agent.start();
      await rig.serves();
    }
    const verdict = await rig.judge();
    recordFault({ fault: 'agent SIGKILL', how: 'each of two in turn, restarted after 3 s', verdict });
    expectSound(verdict);
    for (const what of Object.keys(verdict.syncAnswers))
      expect(what).toMatch(/^(502 outcome_unknown|503 not_started)$/);
  });

  it('an agent freezes for less than its lease: its work is not run again', async () => {
    rig = await FaultRig.start();
    await underLoad(2_000);
    const agent = await rig.busiest();
    agent.process.pause();
    await underLoad(10_000);
    agent.process.resume();
    await rig.serves();
    const verdict = await rig.judge();
    recordFault({ fault: 'agent frozen, shortly', how: 'SIGSTOP for 10 s, one of two', verdict });
    expectSound(verdict);
    expect(verdict.rerun).toBe(0);
  });
});
