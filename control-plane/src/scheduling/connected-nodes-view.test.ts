import {
  type Capacity,
  type Hello,
  InvokeKind,
  Outcome,
  type ResponseEnd,
  type VersionSpec,
} from '@lambda-fleet/proto';
import { pino } from 'pino';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { NodeRegistry } from '../nodes/node-registry.js';
import { NodeSession, SUSPECT_MS } from '../nodes/node-session.js';
import { ConnectedNodesView } from './connected-nodes-view.js';
import { MemoryPlacementLedger } from './memory-placement-ledger.js';
import { rankNodes } from './rank-nodes.js';
import { SKETCHED_DEMAND as DEMAND } from './sketched-cluster.js';

const log = pino({ level: 'silent' });

let registry: NodeRegistry;

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'performance'] });
});

afterEach(() => {
  registry.close();
  vi.useRealTimers();
});

function system() {
  const ledger = new MemoryPlacementLedger();
  registry = new NodeRegistry({
    onRoom: (nodeId) => {
      const capacity = registry.session(nodeId)?.capacity;
      if (capacity === undefined) return;
      ledger.setCapacity(nodeId, { memoryBytes: capacity.memoryBytesTotal, slots: capacity.slotsTotal });
    },
    onGone: (nodeId) => ledger.removeNode(nodeId),
  });
  const view = new ConnectedNodesView(registry, ledger);
  const candidates = (versionId = 'v') => rankNodes(view, { ...DEMAND, versionId });
  return { ledger, view, candidates };
}

function connect(nodeId: string, capacity: Partial<Capacity> = {}, isolation = HELLO.isolation): NodeSession {
  const session = new NodeSession(
    nodeId,
    { ...HELLO, isolation, capacity: { ...CAPACITY, ...capacity } },
    { write: () => true, end: () => {} },
    {
      onCapacity: (of) => registry.capacityChanged(of),
      onUnclaimedResult: () => {},
      onLogs: () => {},
      onDrainProgress: () => {},
      onLeaving: (of) => registry.capacityChanged(of),
      onSelfTest: () => {},
      onClosed: (of) => registry.remove(of),
    },
    log,
  );
  registry.add(session);
  return session;
}

function report(session: NodeSession, capacity: Partial<Capacity>): void {
  session.receive({ message: { $case: 'capacity', value: { ...CAPACITY, ...capacity } } });
}

const dispatch = (session: NodeSession, id: string) =>
  void session.dispatch(SPEC, { ...REQUEST, id }, 'runc', 1, 60_000);

it('knows a node from its Hello until its session ends, and a new session instead of an earlier one', () => {
  const { view, candidates } = system();
  const first = connect('a');
  expect(candidates()).toEqual(['a']);
  const second = connect('a', { slotsTotal: 0 });
  expect(first.closed).toBe(true);
  expect(view.size).toBe(1);
  expect(candidates()).toEqual([]);
  second.close('over');
  expect(view.size).toBe(0);
  expect(view.milliSlotsTotal).toBe(0);
});

it('sees what the ledger has left, at once', async () => {
  const { ledger, view, candidates } = system();
  connect('a', { slotsTotal: 1 });
  const amount = { memoryBytes: 10, milliSlots: 1_000 };
  const request = { invocationId: 'i', candidates: ['a'], amount, limits: undefined, unreservedMax: 1 };
  const reservation = ledger.reserve(request);
  if (typeof reservation === 'string') throw new Error(reservation);
  expect(candidates()).toEqual([]);
  expect(view.milliSlotsUsed).toBe(1_000);
  ledger.release(reservation);
  expect(candidates()).toEqual(['a']);
});

it('prefers the node whose sandbox is idle, by its reports and by what is on its way', () => {
  const { candidates } = system();
  const sessions = ['a', 'b', 'c'].map((id) => connect(id));
  const [other = ''] = candidates().slice(-1);
  const session = sessions.find(({ nodeId }) => nodeId === other);
  if (session === undefined) throw new Error('no candidate');
  report(session, { versions: [{ versionId: 'v', idle: 1, busy: 0 }] });
  expect(candidates()[0]).toBe(other);
  dispatch(session, 'i');
  expect(candidates().at(-1)).toBe(other);
  session.receive({ message: { $case: 'responseEnd', value: { ...END, invocationId: 'i' } } });
  expect(candidates()[0]).toBe(other);
  report(session, { versions: [] });
  expect(candidates().at(-1)).toBe(other);
});

it('takes an answer for the news that a sandbox is there', () => {
  const { candidates } = system();
  const session = ['a', 'b', 'c'].map((id) => connect(id)).find(({ nodeId }) => nodeId === candidates().at(-1));
  if (session === undefined) throw new Error('no candidate');
  dispatch(session, 'i');
  session.receive({ message: { $case: 'responseEnd', value: { ...END, invocationId: 'i' } } });
  expect(candidates()[0]).toBe(session.nodeId);
});

it('gives no work to a node that is cordoned or silent, and again when it is not', () => {
  const { view, candidates } = system();
  const session = connect('a');
  registry.setEligible('a', false);
  expect(candidates()).toEqual([]);
  registry.setEligible('a', true);
  expect(candidates()).toEqual(['a']);
  vi.advanceTimersByTime(SUSPECT_MS + 1_000);
  expect(candidates()).toEqual([]);
  expect(view.withRuntime('nodejs')).toBe(0);
  report(session, {});
  expect(candidates()).toEqual(['a']);
});

it('gives no work to a node from the moment on at which its agent says that it is being stopped', () => {
  const { view, candidates } = system();
  const session = connect('a');
  expect(candidates()).toEqual(['a']);
  session.receive({ message: { $case: 'leaving', value: { boundMs: 90_000 } } });
  expect(candidates()).toEqual([]);
  expect(view.withRuntime('nodejs')).toBe(0);
});

it('forgets what a session had in flight when it ends', () => {
  const { candidates } = system();
  const first = connect('a', { versions: [{ versionId: 'v', idle: 1, busy: 0 }] });
  connect('b');
  dispatch(first, 'i');
  connect('a', { versions: [{ versionId: 'v', idle: 1, busy: 0 }] });
  expect(candidates()[0]).toBe('a');
});

const CAPACITY: Capacity = {
  ...{ memoryBytesTotal: 1_000, memoryBytesFree: 1_000, slotsTotal: 10, slotsFree: 10 },
  ...{ versions: [], blanks: [], sandboxesLeaked: 0 },
};

const HELLO: Hello = {
  ...{ protocolMin: 1, protocolMax: 1, agentVersion: 'test', bootId: 'b', labels: {}, selfTest: [], builds: false },
  runtimes: [{ name: 'nodejs', digest: '' }],
  ...{
    isolation: ['runc'],
    architecture: 'x64',
    networks: ['none'],
    running: [],
    keptResults: [],
    capacity: undefined,
  },
};

const SPEC = {
  versionId: 'v',
  projectId: 'p',
  keepAliveMs: 1_000,
  artifactSha256: 'ab',
  image: undefined,
} as VersionSpec;

const REQUEST = {
  ...{ kind: InvokeKind.EVENT, trigger: 'api', payload: Buffer.from('{}'), traceId: '', clientContext: '' },
  singleUse: false,
};

const END = {
  ...{ epoch: 1, versionId: 'v', outcome: Outcome.SUCCESS, body: Buffer.alloc(0), bodyBytes: 0, bodyStreamed: false },
} as unknown as ResponseEnd;

it('gives nothing to a node of which no kind of sandbox has passed its tests', () => {
  const { candidates } = system();
  const session = connect('a', {}, []);
  expect(registry.isEligible(session)).toBe(false);
  expect(candidates()).toEqual([]);
});
