import { randomUUID } from 'node:crypto';
import {
  type ControlMessage,
  type Hello,
  InvokeKind,
  type Invoke as InvokeMessage,
  Outcome,
  RefusalReason,
  type ResponseEnd,
  StartPath,
} from '@lambda-fleet/proto';
import { pino } from 'pino';
import { describe, expect, it } from 'vitest';
import { ConcurrencyLimiter } from '../admission/concurrency-limiter.js';
import { concurrencyLimits } from '../admission/concurrency-limits.js';
import type { ExecutionRecord } from '../executions/execution-rows.js';
import type { ResolvedVersion } from '../functions/resolved-version.js';
import { NodeRegistry } from '../nodes/node-registry.js';
import { NodeSession } from '../nodes/node-session.js';
import { ConnectedNodesView } from '../scheduling/connected-nodes-view.js';
import { IsolationPolicy } from '../scheduling/isolation-policy.js';
import { MemoryPlacementLedger } from '../scheduling/memory-placement-ledger.js';
import { Placement } from '../scheduling/placement.js';
import type { PlacementLedger } from '../scheduling/placement-ledger.js';
import type { InvocationRequest } from './invocation.js';
import { createInvoke } from './invoke.js';
import { Journal } from './journal.js';
import type { Trigger } from './trigger.js';
import { recordUnclaimedResult } from './unclaimed-result.js';

const log = pino({ level: 'silent' });

const FUNCTION_ID = randomUUID();

const VERSION: ResolvedVersion = {
  projectId: 'default',
  functionId: FUNCTION_ID,
  functionName: 'greet',
  httpAuth: 'key',
  isolation: 'auto',
  provisionedConcurrency: 0,
  limits: concurrencyLimits(FUNCTION_ID, 'default', null, null),
  labels: [],
  keepPayloads: true,
  asyncMaxAgeMs: 0,
  spec: {
    versionId: randomUUID(),
    projectId: 'default',
    functionId: randomUUID(),
    functionName: 'greet',
    versionNumber: 3,
    runtime: 'nodejs',
    handler: 'index.handler',
    memoryMb: 128,
    cpus: 1,
    timeoutMs: 1_000,
    initTimeoutMs: 1_000,
    keepAliveMs: 1_000,
    environment: {},
    artifactSha256: 'ab'.repeat(32),
    artifactBytes: 1,
    arn: 'arn',
    network: 'none',
    egressHosts: [],
    concurrency: 1,
    keepRunning: false,
    realm: '',
  },
};

/** The same ledger, as one that has to ask somebody else. */
function asking(ledger: MemoryPlacementLedger): PlacementLedger {
  return {
    onChange: (listener) => ledger.onChange(listener),
    setCapacity: (nodeId, capacity) => ledger.setCapacity(nodeId, capacity),
    removeNode: (nodeId) => void ledger.removeNode(nodeId),
    reserve: async (request) => ledger.reserve(request),
    release: (reservation) => void ledger.release(reservation),
    free: (nodeId) => ledger.free(nodeId),
  };
}

interface SystemOptions {
  readonly concurrencyMax?: number;
  readonly queueBudgetMs?: number;
  readonly unreserved?: number;
  readonly asks?: boolean;
}

function system(options: SystemOptions = {}) {
  const ledger = new MemoryPlacementLedger();
  const registry: NodeRegistry = new NodeRegistry({
    onRoom: (nodeId) => {
      const session = registry.session(nodeId);
      if (session === undefined) return;
      const { memoryBytesTotal, slotsTotal } = session.capacity;
      ledger.setCapacity(nodeId, { memoryBytes: memoryBytesTotal, slots: slotsTotal });
      placement.roomChanged();
    },
    onGone: (nodeId) => ledger.removeNode(nodeId),
  });
  const view = new ConnectedNodesView(registry, ledger);
  const placement: Placement = new Placement({
    view,
    isolation: new IsolationPolicy('gvisor', view),
    ledger: options.asks ? asking(ledger) : ledger,
    unreservedOf: () => options.unreserved ?? 1_000,
    queue: { perLaneMax: 2, totalMax: 10 },
  });
  const recorded: ExecutionRecord[] = [];
  const journal = new Journal({
    insert: async (records) => {
      recorded.push(...records);
    },
    log,
  });
  const invoke = createInvoke({
    limiter: new ConcurrencyLimiter(options.concurrencyMax ?? 100),
    placement,
    registry,
    journal,
    queueBudgetMs: options.queueBudgetMs ?? 2_000,
    onResult: () => {},
    log,
  });

  /** Connects a node that does with each Invoke what `behave` says. */
  function connect(
    nodeId: string,
    behave: (invoke: InvokeMessage, session: NodeSession) => void,
    slots = 4,
    isolation = ['runc'],
    labels: Record<string, string> = {},
  ) {
    const invokes: InvokeMessage[] = [];
    const acknowledged: string[] = [];
    const cancelled: string[] = [];
    const session: NodeSession = new NodeSession(
      nodeId,
      { ...hello(slots), isolation, labels },
      {
        write: (messages: ControlMessage[]) => {
          for (const { message } of messages) {
            if (message?.$case === 'resultAck')
              acknowledged.push(...message.value.results.map((ref) => ref.invocationId));
            if (message?.$case === 'cancel') cancelled.push(message.value.invocationId);
            if (message?.$case !== 'invoke') continue;
            invokes.push(message.value);
            behave(message.value, session);
          }
          return true;
        },
        end: () => {},
      },
      {
        onCapacity: () => registry.setEligible(nodeId, true),
        onUnclaimedResult: (from, end) => recordUnclaimedResult(journal, from, end),
        onDrainProgress: () => {},
        onLeaving: () => {},
        onSelfTest: () => {},
        onLogs: () => {},
        onClosed: (closed) => registry.remove(closed),
      },
      log,
    );
    registry.add(session);
    return { session, invokes, acknowledged, cancelled };
  }
  return { invoke, connect, recorded, registry, ledger };
}

function hello(slots: number): Hello {
  return {
    protocolMin: 1,
    protocolMax: 1,
    agentVersion: 'test',
    bootId: 'b',
    labels: {},
    runtimes: [{ name: 'nodejs', digest: 'd' }],
    isolation: ['runc'],
    architecture: 'x64',
    networks: ['none'],
    selfTest: [],
    builds: false,
    running: [],
    keptResults: [],
    capacity: {
      memoryBytesTotal: 1e9,
      memoryBytesFree: 1e9,
      slotsTotal: slots,
      slotsFree: slots,
      versions: [],
      blanks: [],
      sandboxesLeaked: 0,
    },
  };
}

function request(trigger: Trigger = 'api'): InvocationRequest {
  return {
    id: randomUUID(),
    kind: InvokeKind.EVENT,
    trigger,
    payload: Buffer.from('{"name":"World"}'),
    traceId: '',
    clientContext: '',
    singleUse: false,
    arrivedAt: performance.now(),
    resolveMs: 0,
    receiveMs: 0,
  };
}

function endOf(invoke: InvokeMessage, outcome: Outcome = Outcome.SUCCESS): ResponseEnd {
  const { spec } = VERSION;
  const body = Buffer.from('{"message":"Hello"}');
  return {
    invocationId: invoke.invocationId,
    epoch: invoke.epoch,
    versionId: spec.versionId,
    projectId: spec.projectId,
    functionId: spec.functionId,
    functionName: spec.functionName,
    versionNumber: spec.versionNumber,
    memoryMb: spec.memoryMb,
    trigger: invoke.trigger,
    startedAtUnixMs: Date.now(),
    outcome,
    http: undefined,
    bodyBytes: body.length,
    bodyStreamed: false,
    body,
    error: undefined,
    receipt: {
      start: StartPath.WARM,
      sandboxId: 's',
      queueUs: 1,
      sandboxUs: 0,
      initUs: 0,
      runUs: 1_500,
      cpuUs: 900,
      memoryPeakBytes: 1_000,
      fault: 0,
      shared: false,
      isolation: 'runc',
    },
    replayed: false,
    kind: invoke.kind,
  };
}

const succeed = (invoke: InvokeMessage, session: NodeSession) =>
  session.receive({ message: { $case: 'responseEnd', value: endOf(invoke) } });

const refuse = (reason: RefusalReason) => (invoke: InvokeMessage, session: NodeSession) =>
  session.receive({
    message: {
      $case: 'refused',
      value: { invocationId: invoke.invocationId, epoch: invoke.epoch, reason, detail: 'full' },
    },
  });

describe('invoke', () => {
  it('answers with the result, records it once and then tells the agent so', async () => {
    const { invoke, connect, recorded } = system();
    const node = connect('n1', succeed);
    const call = request();
    const result = await invoke(VERSION, call);
    expect(result).toMatchObject({ id: call.id, outcome: 'success', nodeId: 'n1' });
    expect(result.receipt).toMatchObject({ start: 'warm', runMs: 1.5, cpuMs: 0.9 });
    expect(result.body.toString()).toBe('{"message":"Hello"}');
    await expect.poll(() => node.acknowledged).toEqual([call.id]);
    expect(recorded).toHaveLength(1);
    expect(recorded[0]).toMatchObject({ id: call.id, outcome: 'success', input: '{"name":"World"}', versionNumber: 3 });
  });

  it('records an event and a result that are no text as bytes, and neither of a function that keeps none', async () => {
    const { invoke, connect, recorded } = system();
    const bytes = Buffer.from([0xff, 0x00]);
    const end = (message: InvokeMessage) => ({ ...endOf(message), body: bytes, bodyBytes: bytes.length });
    connect('n1', (message, session) => session.receive({ message: { $case: 'responseEnd', value: end(message) } }));
    const [kept, dropped] = [{ ...request(), payload: bytes }, request()];
    await invoke(VERSION, kept);
    await invoke({ ...VERSION, keepPayloads: false }, dropped);
    await expect.poll(() => recorded.length).toBe(2);
    const [first, second] = [kept, dropped].map(({ id }) => recorded.find((record) => record.id === id));
    expect(first).toMatchObject({ input: undefined, inputBytes: bytes, output: undefined, outputBytes: bytes });
    const none = { input: undefined, inputBytes: undefined, output: undefined, outputBytes: undefined };
    expect(second).toMatchObject({ ...none, outcome: 'success', keepPayloads: false });
  });

  it('sends the spec of a version once per session, and again when the agent asks for it', async () => {
    const { invoke, connect } = system();
    let forgot = false;
    const node = connect('n1', (message, session) => {
      if (forgot && message.spec === undefined) refuse(RefusalReason.UNKNOWN_VERSION)(message, session);
      else succeed(message, session);
    });
    await invoke(VERSION, request());
    await invoke(VERSION, request());
    forgot = true;
    expect((await invoke(VERSION, request())).outcome).toBe('success');
    expect(node.invokes.map((message) => message.spec !== undefined)).toEqual([true, false, false, true]);
  });

  it.each([
    ['at once', false],
    ['later', true],
  ])('tries each other node once when one refuses, with a ledger that answers %s', async (_when, asks) => {
    const { invoke, connect } = system({ asks });
    const nodes = ['n1', 'n2', 'n3', 'n4', 'n5', 'n6'].map((id) =>
      connect(id, id === 'n2' ? succeed : refuse(RefusalReason.NO_CAPACITY)),
    );
    expect(await invoke(VERSION, request())).toMatchObject({ outcome: 'success', nodeId: 'n2' });
    expect(nodes.every((node) => node.invokes.length <= 1)).toBe(true);
  });

  it('decides what isolates an invocation when it is placed, not when it came', async () => {
    const { invoke, connect } = system();
    const waiting = invoke(VERSION, request());
    const gvisor = connect('n1', succeed, 4, ['runc', 'gvisor']);
    expect(await waiting).toMatchObject({ outcome: 'success' });
    expect(gvisor.invokes.map((message) => message.isolation)).toEqual(['gvisor']);
    const process = system();
    const alsoWaiting = process.invoke(VERSION, request());
    const plain = process.connect('n1', succeed, 4, ['none']);
    expect(await alsoWaiting).toMatchObject({ outcome: 'success' });
    expect(plain.invokes.map((message) => message.isolation)).toEqual(['none']);
  });

  it('answers outcome_unknown when the link breaks, and never runs it anywhere else', async () => {
    const { invoke, connect, recorded } = system();
    const broken = connect('n1', (_message, session) => session.close('test'));
    const call = request();
    const pending = invoke(VERSION, call);
    const result = await pending;
    const other = connect('n2', succeed);
    expect(result).toMatchObject({ outcome: 'outcome_unknown', nodeId: 'n1' });
    expect(broken.invokes).toHaveLength(1);
    expect(other.invokes).toHaveLength(0);
    await expect.poll(() => recorded.map((record) => record.outcome)).toEqual(['outcome_unknown']);
  });

  it('records the result of an agent that comes back after its caller was answered', async () => {
    const { connect, recorded } = system();
    const node = connect('n1', () => {});
    const late = endOf({
      invocationId: randomUUID(),
      epoch: 1,
      trigger: 'api',
      kind: InvokeKind.EVENT,
    } as InvokeMessage);
    node.session.receive({ message: { $case: 'responseEnd', value: { ...late, replayed: true } } });
    await expect.poll(() => recorded.map((record) => record.id)).toEqual([late.invocationId]);
    await expect.poll(() => node.acknowledged).toEqual([late.invocationId]);
  });

  it('drops a late result whose ids or times are lies, and releases the agent from it', async () => {
    const { connect, recorded } = system();
    const node = connect('n1', () => {});
    const good = endOf({
      invocationId: randomUUID(),
      epoch: 1,
      trigger: 'api',
      kind: InvokeKind.EVENT,
    } as InvokeMessage);
    for (const lie of [{ invocationId: "'; --" }, { functionId: 'f' }, { startedAtUnixMs: 9e15 }, { outcome: 99 }]) {
      node.session.receive({ message: { $case: 'responseEnd', value: { ...good, ...lie } as ResponseEnd } });
    }
    await expect.poll(() => node.acknowledged.length).toBe(4);
    expect(recorded).toEqual([]);
  });

  it('waits for a node and runs as soon as one connects', async () => {
    const { invoke, connect } = system();
    const pending = invoke(VERSION, request());
    await new Promise((resolve) => setTimeout(resolve, 20));
    connect('n1', succeed);
    expect((await pending).outcome).toBe('success');
  });

  it('says not_started, with a time to come back, when no node has room in time', async () => {
    const { invoke, recorded } = system({ queueBudgetMs: 20 });
    const result = await invoke(VERSION, request());
    expect(result).toMatchObject({
      outcome: 'not_started',
      retryAfterSeconds: 1,
      reason: expect.stringContaining('No node'),
    });
    await expect.poll(() => recorded.map((record) => record.outcome)).toEqual(['not_started']);
  });

  it('says at once that no node offers the runtime', async () => {
    const { invoke, connect } = system();
    connect('n1', succeed);
    const python = { ...VERSION, spec: { ...VERSION.spec, runtime: 'python' } };
    expect(await invoke(python, request())).toMatchObject({
      outcome: 'not_started',
      reason: 'No connected node offers the runtime python.',
    });
  });

  it('runs a function only on nodes with the labels that it asks for', async () => {
    const { invoke, connect } = system();
    connect('plain', succeed);
    connect('there', succeed, 4, ['runc'], { zone: 'a', disk: 'ssd' });
    const labelled = { ...VERSION, labels: ['zone=a'] };
    for (let n = 0; n < 5; n += 1) expect(await invoke(labelled, request())).toMatchObject({ nodeId: 'there' });
    expect(await invoke({ ...VERSION, labels: ['zone=a', 'zone=b'] }, request())).toMatchObject({
      outcome: 'not_started',
      reason: 'No connected node offers the runtime nodejs with isolation runc and the labels zone=a, zone=b.',
    });
  });

  it('throttles what is over the limit and records nothing of it', async () => {
    const { invoke, connect, recorded } = system({ concurrencyMax: 1 });
    const held: (() => void)[] = [];
    connect('n1', (message, session) => held.push(() => succeed(message, session)));
    const first = invoke(VERSION, request());
    await expect.poll(() => held.length).toBe(1);
    expect(await invoke(VERSION, request())).toMatchObject({ outcome: 'throttled', retryAfterSeconds: 1 });
    held[0]?.();
    expect((await first).outcome).toBe('success');
    expect(
      (
        await Promise.all([
          invoke(VERSION, request()),
          expect
            .poll(() => held.length)
            .toBe(2)
            .then(() => held[1]?.()),
        ])
      )[0].outcome,
    ).toBe('success');
    await expect.poll(() => recorded.length).toBe(2);
  });

  it('throttles a function that is at its limit at once, says why, and runs it again when one has ended', async () => {
    const { invoke, connect, recorded } = system();
    const held: (() => void)[] = [];
    connect('n1', (message, session) => held.push(() => succeed(message, session)));
    const limited = { ...VERSION, limits: concurrencyLimits(FUNCTION_ID, 'default', 1, null) };
    const first = invoke(limited, request());
    await expect.poll(() => held.length).toBe(1);
    const over = await invoke(limited, request());
    expect(over).toMatchObject({ outcome: 'throttled', retryAfterSeconds: 1 });
    expect(over.refusal).toBe('ReservedFunctionConcurrentInvocationLimitExceeded');
    held[0]?.();
    expect((await first).outcome).toBe('success');
    const next = invoke(limited, request());
    await expect.poll(() => held.length).toBe(2);
    held[1]?.();
    expect((await next).outcome).toBe('success');
    await expect.poll(() => recorded.length).toBe(2);
  });

  it('throttles at the limit of the account, but not a function that has reserved some', async () => {
    const { invoke, connect } = system({ unreserved: 1 });
    const held: (() => void)[] = [];
    connect('n1', (message, session) => held.push(() => succeed(message, session)));
    const first = invoke(VERSION, request());
    await expect.poll(() => held.length).toBe(1);
    expect(await invoke(VERSION, request())).toMatchObject({
      outcome: 'throttled',
      refusal: 'ConcurrentInvocationLimitExceeded',
      retryAfterSeconds: 1,
    });
    const kept = invoke({ ...VERSION, limits: concurrencyLimits('kept', 'default', 1, null) }, request());
    await expect.poll(() => held.length).toBe(2);
    for (const answer of held) answer();
    expect([(await first).outcome, (await kept).outcome]).toEqual(['success', 'success']);
  });

  it('a function that is switched off is throttled though no node is connected, and its new code is still checked', async () => {
    const { invoke, connect } = system();
    const off = { ...VERSION, limits: concurrencyLimits(FUNCTION_ID, 'default', 0, null) };
    const refused = await invoke(off, request());
    expect(refused).toMatchObject({ outcome: 'throttled', reason: expect.stringContaining('switches it off') });
    expect(refused).toMatchObject({ refusal: 'ReservedFunctionConcurrentInvocationLimitExceeded' });
    connect('n1', succeed);
    expect((await invoke(off, { ...request(), trigger: 'deploy' })).outcome).toBe('success');
  });

  it('keeps the permits of functions with reserved concurrency from the others', async () => {
    const { invoke, connect } = system({ concurrencyMax: 1 });
    const held: (() => void)[] = [];
    connect('n1', (message, session) => held.push(() => succeed(message, session)));
    const flood = invoke(VERSION, request());
    await expect.poll(() => held.length).toBe(1);
    expect(await invoke(VERSION, request())).toMatchObject({ refusal: 'TooManyInvocationsInProgress' });
    const kept = invoke({ ...VERSION, limits: concurrencyLimits('kept', 'default', 1, null) }, request());
    await expect.poll(() => held.length).toBe(2);
    for (const answer of held) answer();
    expect([(await flood).outcome, (await kept).outcome]).toEqual(['success', 'success']);
  });

  it('throttles a function of which too many wait already', async () => {
    const { invoke, connect } = system();
    const held: (() => void)[] = [];
    connect('n1', (message, session) => held.push(() => succeed(message, session)), 1);
    const running = [invoke(VERSION, request()), invoke(VERSION, request()), invoke(VERSION, request())];
    await expect.poll(() => held.length).toBe(1);
    expect(await invoke(VERSION, request())).toMatchObject({
      ...{ outcome: 'throttled', refusal: 'WaitingQueueFull', retryAfterSeconds: 1 },
    });
    for (let i = 0; i < 3; i += 1) {
      await expect.poll(() => held.length).toBe(i + 1);
      held[i]?.();
    }
    expect((await Promise.all(running)).map((result) => result.outcome)).toEqual(['success', 'success', 'success']);
  });

  it('returns every reservation, whatever the outcome', async () => {
    const { invoke, connect, ledger } = system({ queueBudgetMs: 50 });
    connect('n1', refuse(RefusalReason.NO_CAPACITY));
    await invoke(VERSION, request());
    expect(ledger.free('n1')).toEqual({ memoryBytes: 1e9, slots: 4 });
  });

  it.each(['deploy', 'test'] as const)(
    'leaves no execution of a %s, and releases the agent from its result',
    async (trigger) => {
      const { invoke, connect, recorded } = system();
      const node = connect('n1', succeed);
      const call = request(trigger);
      await invoke(VERSION, call);
      await expect.poll(() => node.acknowledged).toEqual([call.id]);
      expect(recorded).toEqual([]);
    },
  );
});

describe('an invocation that may be withdrawn', () => {
  const nothingReserved = { memoryBytes: 1e9, slots: 4 };

  it('is not sent before what has to be durable is written, and is sent with what was written', async () => {
    const { invoke, connect } = system();
    const node = connect('n1', succeed);
    const written: unknown[] = [];
    let commit = () => {};
    const committed = new Promise<void>((resolve) => {
      commit = resolve;
    });
    const pending = invoke(VERSION, {
      ...request('job'),
      beforeSend: async (sentTo) => {
        written.push(sentTo);
        await committed;
        return true;
      },
    });
    await expect.poll(() => written).toEqual([{ nodeId: 'n1', bootId: 'b' }]);
    expect(node.invokes).toEqual([]);
    commit();
    expect(await pending).toMatchObject({ outcome: 'success', attested: true });
    expect(node.invokes).toHaveLength(1);
  });

  it('is given up, not started and without a trace, when that says no', async () => {
    const { invoke, connect, recorded, ledger } = system();
    const node = connect('n1', succeed);
    const result = await invoke(VERSION, {
      ...{ ...request('job'), attempt: { epoch: 1, alone: false } },
      beforeSend: () => Promise.resolve(false),
    });
    expect(result).toMatchObject({ outcome: 'not_started', attested: false });
    expect(node.invokes).toEqual([]);
    expect(ledger.free('n1')).toEqual(nothingReserved);
    // The journal lingers 50 ms; this one is behind whatever was before it.
    await invoke(VERSION, request());
    await expect.poll(() => recorded.map(({ outcome }) => outcome)).toEqual(['success']);
  });

  it('that is cancelled while it waits ends at once, and takes no place afterwards', async () => {
    const { invoke, connect, ledger } = system();
    const controller = new AbortController();
    const pending = invoke(VERSION, { ...request('job'), signal: controller.signal });
    const next = invoke(VERSION, request());
    controller.abort();
    expect((await pending).outcome).toBe('not_started');
    const node = connect('n1', succeed);
    expect((await next).outcome).toBe('success');
    expect(node.invokes).toHaveLength(1);
    expect(ledger.free('n1')).toEqual(nothingReserved);
  });

  it('that is cancelled while it runs is cancelled at its agent, whose answer is the outcome', async () => {
    const { invoke, connect } = system();
    const controller = new AbortController();
    const node = connect('n1', () => {});
    const call = request('job');
    const pending = invoke(VERSION, { ...call, signal: controller.signal });
    await expect.poll(() => node.invokes.length).toBe(1);
    expect(node.cancelled).toEqual([]);
    controller.abort();
    await expect.poll(() => node.cancelled).toEqual([call.id]);
    const [sent] = node.invokes;
    if (sent === undefined) throw new Error('nothing was sent');
    node.session.receive({ message: { $case: 'responseEnd', value: endOf(sent, Outcome.UNKNOWN) } });
    expect(await pending).toMatchObject({ outcome: 'outcome_unknown', attested: true });
  });

  it('that is cancelled before it is sent is not sent', async () => {
    const { invoke, connect } = system();
    const controller = new AbortController();
    const node = connect('n1', succeed);
    const beforeSend = () => {
      controller.abort();
      return Promise.resolve(true);
    };
    const result = await invoke(VERSION, { ...request('job'), beforeSend, signal: controller.signal });
    expect(result.outcome).toBe('not_started');
    expect(node.invokes).toEqual([]);
  });

  it('says that nobody attests how it ended when the link broke', async () => {
    const { invoke, connect } = system();
    connect('n1', (_message, session) => session.close('test'));
    expect(await invoke(VERSION, request('job'))).toMatchObject({ outcome: 'outcome_unknown', attested: false });
  });
});
