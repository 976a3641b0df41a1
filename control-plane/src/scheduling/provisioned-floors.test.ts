import type { AgentMessage, Capacity, ControlMessage, Hello, VersionSpec } from '@lambda-fleet/proto';
import { pino } from 'pino';
import { afterEach, expect, it } from 'vitest';
import { NodeRegistry } from '../nodes/node-registry.js';
import { NodeSession } from '../nodes/node-session.js';
import { ConnectedNodesView } from './connected-nodes-view.js';
import { MemoryPlacementLedger } from './memory-placement-ledger.js';
import { ProvisionedFloors } from './provisioned-floors.js';

const log = pino({ level: 'silent' });
const SPEC = {
  versionId: 'v',
  functionId: 'f',
  functionName: 'greet',
  memoryMb: 100,
  runtime: 'nodejs',
  network: 'none',
} as VersionSpec;

const capacityWith = (idle: number, busy = 0, starting?: number): Capacity => ({
  ...{ memoryBytesTotal: 1e9, memoryBytesFree: 1e9, slotsTotal: 8, slotsFree: 8, blanks: [], sandboxesLeaked: 0 },
  versions: [{ versionId: 'v', idle, busy, starting }],
});

const closers: (() => void)[] = [];
afterEach(() => {
  for (const close of closers.splice(0)) close();
});

class FleetOfTwo {
  readonly registry = new NodeRegistry({ onRoom: () => {}, onGone: () => {} });
  readonly floors: ProvisionedFloors;
  /** Node → sandboxes that it was last told to keep ready. */
  readonly told = new Map<string, number>();
  /** Nodes in the order in which they were told that nothing of theirs changes. */
  readonly toldNothing: string[] = [];

  constructor(provisionedConcurrency: number, databaseIsAway = () => false) {
    this.floors = new ProvisionedFloors({
      load: async () => {
        if (databaseIsAway()) throw new Error('the database is away');
        return [{ spec: SPEC, isolation: 'runc', provisionedConcurrency, labels: [] }];
      },
      isolationOf: () => 'runc',
      view: new ConnectedNodesView(this.registry, new MemoryPlacementLedger()),
      registry: this.registry,
      log,
    });
    closers.push(
      () => this.floors.close(),
      () => this.registry.close(),
    );
    for (const nodeId of ['a', 'b']) this.connect(nodeId);
  }

  /** In place of an earlier session, where there is one. */
  connect(nodeId: string): void {
    this.registry.add(this.#session(nodeId));
    this.floors.nodesChanged();
  }

  reports(nodeId: string, idle: number, busy = 0, starting?: number): void {
    this.#receive(nodeId, { $case: 'capacity', value: capacityWith(idle, busy, starting) });
  }

  reportsMemory(nodeId: string, idle: number, memoryBytesTotal: number): void {
    this.#receive(nodeId, { $case: 'capacity', value: { ...capacityWith(idle), memoryBytesTotal } });
  }

  leaves(nodeId: string): void {
    this.#receive(nodeId, { $case: 'leaving', value: { boundMs: 90_000 } });
  }

  cordon(nodeId: string): void {
    this.registry.setEligible(nodeId, false);
    this.floors.nodesChanged();
  }

  #receive(nodeId: string, message: AgentMessage['message']): void {
    this.registry.session(nodeId)?.receive({ message });
  }

  #session(nodeId: string): NodeSession {
    const hello = {
      ...{ runtimes: [{ name: 'nodejs', digest: '' }], isolation: ['runc'], networks: ['none'], architecture: 'x64' },
      ...{ running: [], keptResults: [], capacity: capacityWith(0), labels: {} },
    } as unknown as Hello;
    const write = (messages: ControlMessage[]): boolean => {
      for (const { message } of messages) {
        if (message?.$case !== 'warm') continue;
        const [floor] = message.value.floors;
        if (floor === undefined) this.toldNothing.push(nodeId);
        else this.told.set(nodeId, floor.sandboxes);
      }
      return true;
    };
    return new NodeSession(
      nodeId,
      hello,
      { write, end: () => {} },
      {
        onCapacity: (session) => {
          this.registry.capacityChanged(session);
          this.floors.capacityReported();
        },
        onLeaving: (session) => {
          this.registry.capacityChanged(session);
          this.floors.nodesChanged();
        },
        ...{
          onUnclaimedResult: () => {},
          onLogs: () => {},
          onDrainProgress: () => {},
          onSelfTest: () => {},
        },
        onClosed: (session) => this.registry.remove(session),
      },
      log,
    );
  }
}

it('a node that takes no new work keeps its floor until the others report theirs ready', async () => {
  const fleet = new FleetOfTwo(4);
  await expect.poll(() => [fleet.told.get('a'), fleet.told.get('b')]).toEqual([2, 2]);
  for (const nodeId of ['a', 'b']) fleet.reports(nodeId, 2);
  fleet.cordon('a');
  await expect.poll(() => fleet.told.get('b')).toBe(4);
  // Two are ready, and two are still being made.
  fleet.reports('b', 2, 2, 2);
  await new Promise((resolve) => setTimeout(resolve, 120));
  expect(fleet.told.get('a')).toBe(2);
  fleet.reports('b', 4);
  await expect.poll(() => fleet.told.get('a')).toBe(0);
});

it('a floor that no other node can keep is given up', async () => {
  const fleet = new FleetOfTwo(12);
  await expect.poll(() => [fleet.told.get('a'), fleet.told.get('b')]).toEqual([6, 6]);
  fleet.cordon('a');
  await expect.poll(() => fleet.told.get('b')).toBe(8);
  fleet.reports('b', 8);
  await expect.poll(() => fleet.told.get('a')).toBe(0);
});

it('nobody waits for sandboxes for which the memory of a node is too small', async () => {
  const fleet = new FleetOfTwo(12);
  await expect.poll(() => fleet.told.get('a')).toBe(6);
  fleet.cordon('a');
  await expect.poll(() => fleet.told.get('b')).toBe(8);
  // 500 MB for sandboxes of 100.
  fleet.reportsMemory('b', 4, 500 * 1024 * 1024);
  await new Promise((resolve) => setTimeout(resolve, 120));
  expect(fleet.told.get('a')).toBe(6);
  fleet.reportsMemory('b', 5, 500 * 1024 * 1024);
  await expect.poll(() => fleet.told.get('a')).toBe(0);
});

it('a sandbox that runs what another replica sent is as ready as an idle one', async () => {
  const fleet = new FleetOfTwo(4);
  await expect.poll(() => fleet.told.get('a')).toBe(2);
  fleet.cordon('a');
  await expect.poll(() => fleet.told.get('b')).toBe(4);
  fleet.reports('b', 1, 3, 1);
  await new Promise((resolve) => setTimeout(resolve, 120));
  expect(fleet.told.get('a')).toBe(2);
  fleet.reports('b', 0, 4, 0);
  await expect.poll(() => fleet.told.get('a')).toBe(0);
});

it('a node that takes no new work hears in its next session that it is to keep nothing', async () => {
  const fleet = new FleetOfTwo(4);
  await expect.poll(() => fleet.told.get('a')).toBe(2);
  fleet.cordon('a');
  await expect.poll(() => fleet.told.get('b')).toBe(4);
  expect(fleet.toldNothing).toEqual([]);
  fleet.connect('a');
  await expect.poll(() => fleet.toldNothing).toEqual(['a']);
  fleet.connect('b');
  await expect.poll(() => fleet.toldNothing).toEqual(['a']);
});

it('no node hears anything of floors before they were loaded', async () => {
  let away = true;
  const fleet = new FleetOfTwo(4, () => away);
  fleet.cordon('a');
  await new Promise((resolve) => setTimeout(resolve, 120));
  expect([...fleet.told.keys(), ...fleet.toldNothing]).toEqual([]);
  away = false;
  fleet.floors.functionsChanged();
  await expect.poll(() => [fleet.told.get('b'), fleet.toldNothing]).toEqual([4, ['a']]);
});

it('a node whose agent is being stopped keeps its floor until the others report theirs ready', async () => {
  const fleet = new FleetOfTwo(4);
  await expect.poll(() => [fleet.told.get('a'), fleet.told.get('b')]).toEqual([2, 2]);
  for (const nodeId of ['a', 'b']) fleet.reports(nodeId, 2);
  fleet.leaves('a');
  await expect.poll(() => fleet.told.get('b')).toBe(4);
  fleet.reports('b', 2, 2, 2);
  await new Promise((resolve) => setTimeout(resolve, 120));
  expect(fleet.told.get('a')).toBe(2);
  fleet.reports('b', 4);
  await expect.poll(() => fleet.told.get('a')).toBe(0);
});
