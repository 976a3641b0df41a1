import { afterEach, describe, expect, it } from 'vitest';
import type { Cut } from '../cluster/network-namespace.js';
import { recordFault } from './fault-report.js';
import { FaultRig, underLoad } from './fault-rig.js';
import { expectSound } from './verdict.js';

const AGENTS = [
  { driver: 'process', cable: true },
  { driver: 'process', cable: true },
] as const;

let rig: FaultRig | undefined;

afterEach(async () => {
  await rig?.dispose();
  rig = undefined;
});

describe('one of two agents, whose cable is cut under load', { timeout: 900_000 }, () => {
  it.each<[string, Cut, number]>([
    ['both ways', 'all', 5_000],
    ['by resets', 'reset', 2_000],
    ['one way', 'to-agent', 5_000],
  ])('%s, for less than its lease: nothing is run again', async (how, cut, ms) => {
    rig = await FaultRig.start({ agents: AGENTS });
    await underLoad(2_000);
    const { cable } = await rig.busiest();
    await cable?.cut(cut);
    await underLoad(ms);
    await cable?.heal();
    await rig.serves(60);
    const verdict = await rig.judge();
    recordFault({ fault: `partition, ${ms / 1_000} s`, how: `${how}, nftables in a network namespace`, verdict });
    expectSound(verdict);
    expect(verdict.rerun).toBe(0);
  });

  it('and loses a tenth of all packets: no node is lost', async () => {
    rig = await FaultRig.start({ agents: AGENTS });
    await underLoad(1_000);
    const { cable } = await rig.busiest();
    await cable?.cut({ lossPercent: 10 });
    await rig.serves(200);
    await cable?.heal();
    await rig.serves();
    const verdict = await rig.judge();
    recordFault({ fault: 'bad network', how: '10 % of packets lost each way, nftables', verdict });
    expectSound(verdict);
    expect(verdict.rerun).toBe(0);
    expect(verdict.syncAnswers).toEqual({});
  });
});
