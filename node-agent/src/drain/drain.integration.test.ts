import type { DrainProgress } from '@lambda-fleet/proto';
import { Outcome, RefusalReason } from '@lambda-fleet/proto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { HostUnderTest, log } from '../../test-support/host-under-test.js';
import { FloorWishes } from '../link/floor-wishes.js';
import { leave } from './leave.js';
import { type DrainLink, NodeDrain } from './node-drain.js';

/** A link of one replica that commits what it is told to have committed. */
class Reports implements DrainLink {
  readonly reports: DrainProgress[] = [];
  builds = 0;
  settled = true;
  leavingMs: number | undefined;
  readonly floors = new FloorWishes((floors) => node.host.runner.warm(floors));
  constructor() {
    this.floors.begin(this);
  }
  anyReady(): object {
    return this;
  }
  refuseBuilds(): void {}
  abandonBuilds(): void {
    this.builds = 0;
  }
  capacityChanged(): void {}
  reportDrain(progress: DrainProgress): void {
    this.reports.push(progress);
  }
  leave(boundMs: number): void {
    this.leavingMs = boundMs;
  }
  get last(): DrainProgress | undefined {
    return this.reports.at(-1);
  }
}

const SLOW = `export const handler = async ({ ms = 0, text = 'done' }) => { await new Promise((r) => setTimeout(r, ms)); return text; };`;

let node: HostUnderTest;
let link: Reports;
let drain: NodeDrain;
beforeEach(async () => {
  node = await HostUnderTest.open('process', { blanks: 1 });
  link = new Reports();
  drain = new NodeDrain({ runner: node.host.runner, link, lookForLeaks: () => node.host.lookForLeaks(), log });
});
afterEach(async () => {
  drain.close();
  await node.close();
});

const start = (drainId: string, deadlineMs?: number): void => drain.receive({ drainId, deadlineMs, cancelled: false });
const completed = (): Promise<void> =>
  expect.poll(() => link.last, { timeout: 15_000 }).toMatchObject({ complete: true, inFlight: 0, sandboxes: 0 });

describe('a drain on its node', () => {
  it('refuses new work, lets what runs finish, gives up what is idle, and is complete when all of it is committed', async () => {
    const spec = await node.deploy(SLOW);
    await node.call(spec);
    const running = node.call(spec, { event: { ms: 1_500 } });
    link.settled = false;
    start('a');
    expect(await node.tryCall(spec)).toMatchObject({ refused: RefusalReason.STOPPING });
    expect(node.host.runner.capacity().slotsFree).toBe(0);
    await expect.poll(() => link.last).toMatchObject({ drainId: 'a', inFlight: 1, complete: false });
    expect(link.last?.inFlightMs).toBeGreaterThan(0);
    expect(link.last?.inFlightMs).toBeLessThanOrEqual(spec.timeoutMs);
    expect(await running).toMatchObject({ outcome: Outcome.SUCCESS, text: '"done"' });
    await expect.poll(() => node.host.runner.load(), { timeout: 15_000 }).toMatchObject({ inFlight: 0, sandboxes: 0 });
    await expect.poll(() => link.last).toMatchObject({ inFlight: 0, sandboxes: 0, complete: false });
    link.settled = true;
    await completed();
    expect(link.last).toMatchObject({ deadlineReached: false, killed: 0 });
    // It stays empty: a drain that is over does not end by itself.
    expect(await node.tryCall(spec)).toMatchObject({ refused: RefusalReason.STOPPING });
    drain.receive({ drainId: 'a', deadlineMs: undefined, cancelled: true });
    expect(await node.call(spec)).toMatchObject({ outcome: Outcome.SUCCESS });
    expect(node.host.runner.capacity().slotsFree).toBeGreaterThan(0);
  });

  it('keeps the sandboxes of floors until it is told that they are not wanted any more', async () => {
    const spec = await node.deploy(SLOW);
    const [isolation = ''] = node.host.driver.isolation;
    node.host.runner.warm([{ spec, isolation, sandboxes: 1 }]);
    await expect
      .poll(() => node.host.runner.capacity().versions, { timeout: 15_000 })
      .toEqual([{ versionId: spec.versionId, idle: 1, busy: 0, starting: 0 }]);
    start('a');
    await expect.poll(() => link.last).toMatchObject({ inFlight: 0, sandboxes: 1, complete: false });
    node.host.runner.warm([{ spec, isolation, sandboxes: 0 }]);
    await completed();
  });

  it('ends at the deadline what runs, floors included, and counts it; what answers after SIGTERM has succeeded', async () => {
    const spec = await node.deploy(`export const handler = async ({ willing }) => {
      await new Promise((r) => { setTimeout(r, 60_000); if (willing) process.once('SIGTERM', r); });
      return 'done';
    };`);
    const [isolation = ''] = node.host.driver.isolation;
    node.host.runner.warm([{ spec, isolation, sandboxes: 3 }]);
    await expect
      .poll(() => node.host.runner.capacity().versions, { timeout: 20_000 })
      .toMatchObject([{ idle: 3, busy: 0 }]);
    const running = node.call(spec);
    const willing = node.call(spec, { event: { willing: true } });
    await expect.poll(() => node.host.runner.capacity().versions).toMatchObject([{ idle: 1, busy: 2, starting: 0 }]);
    start('a', 600);
    expect(await running).toMatchObject({ outcome: Outcome.UNKNOWN });
    expect(await willing).toMatchObject({ outcome: Outcome.SUCCESS, text: '"done"' });
    await completed();
    expect(link.last).toMatchObject({ deadlineReached: true, killed: 1 });
  });

  it('keeps the sandboxes of floors again when it is cancelled after its deadline', async () => {
    const spec = await node.deploy(SLOW);
    const [isolation = ''] = node.host.driver.isolation;
    link.floors.set(link, [{ spec, isolation, sandboxes: 2 }]);
    const ready = () =>
      expect.poll(() => node.host.runner.capacity().versions, { timeout: 20_000 }).toMatchObject([{ idle: 2 }]);
    await ready();
    start('a', 0);
    await completed();
    // Whoever said so has no reason to say it again.
    drain.receive({ drainId: 'a', deadlineMs: undefined, cancelled: true });
    await ready();
  });

  it('takes a new deadline of the same drain, and never takes up one that was cancelled', async () => {
    const spec = await node.deploy(SLOW);
    const running = node.call(spec, { event: { ms: 1_000 } });
    start('a', 0);
    start('b', 60_000);
    drain.receive({ drainId: 'a', deadlineMs: undefined, cancelled: true });
    expect(await node.tryCall(spec)).toMatchObject({ refused: RefusalReason.STOPPING });
    drain.receive({ drainId: 'b', deadlineMs: undefined, cancelled: true });
    start('b', 60_000);
    await running;
    expect(await node.call(spec)).toMatchObject({ outcome: Outcome.SUCCESS });
  });
});

describe('leaving', () => {
  const leaving = (leaveMs: number, hurried = new AbortController().signal): Promise<void> =>
    leave({ runner: node.host.runner, link, drain, leaveMs, hurried, log });

  it('says so, refuses new work and lets what runs finish', async () => {
    const spec = await node.deploy(SLOW);
    const running = node.call(spec, { event: { ms: 1_200 } });
    const left = leaving(60_000);
    expect(link.leavingMs).toBe(60_000);
    expect(await node.tryCall(spec)).toMatchObject({ refused: RefusalReason.STOPPING });
    await left;
    expect(node.host.runner.load().inFlight).toBe(0);
    expect(await running).toMatchObject({ outcome: Outcome.SUCCESS });
  });

  it('waits for a long call until its bound, or until somebody hurries it', async () => {
    const spec = await node.deploy(SLOW);
    const running = node.call(spec, { event: { ms: 9_000 } });
    await leaving(600);
    expect(node.host.runner.load().inFlight).toBe(1);
    const hurry = new AbortController();
    const left = leaving(3_600_000, hurry.signal);
    hurry.abort();
    await left;
    expect(node.host.runner.load().inFlight).toBe(1);
    await node.host.runner.close();
    expect(await running).toMatchObject({ outcome: Outcome.UNKNOWN });
  });
});
