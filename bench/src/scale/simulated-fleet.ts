import { setImmediate as nextTurn } from 'node:timers/promises';
import { type ConcurrencyLimits, concurrencyLimits } from '@lambda-fleet/control-plane/admission/concurrency-limits';
import { NodeRegistry } from '@lambda-fleet/control-plane/nodes/node-registry';
import { NodeSession } from '@lambda-fleet/control-plane/nodes/node-session';
import type { ClusterView, Demand } from '@lambda-fleet/control-plane/scheduling/cluster-view';
import { ConnectedNodesView } from '@lambda-fleet/control-plane/scheduling/connected-nodes-view';
import { IsolationPolicy } from '@lambda-fleet/control-plane/scheduling/isolation-policy';
import { MemoryPlacementLedger } from '@lambda-fleet/control-plane/scheduling/memory-placement-ledger';
import { type Placed, Placement } from '@lambda-fleet/control-plane/scheduling/placement';
import { InvokeKind, Outcome, type ResponseEnd } from '@lambda-fleet/proto';
import { pino } from 'pino';
import { EventQueue } from './event-queue.js';
import { callDurationMs, type FunctionMix, type SimulatedFunction } from './function-mix.js';
import type { KeepAlive } from './keep-alive-policies.js';
import { Random } from './random.js';
import type { Rank } from './ranking-policies.js';
import { SimulatedNode, type SimulatedSandbox } from './simulated-node.js';

/** Reports of one node are at least so far apart, virtual milliseconds. */
const REPORT_MS = 100;
const COLD_START_MS = 300;
/** Sessions that say nothing for a while, on the real clock, are taken for dead. */
const HEARTBEAT_MS = 4_000;
/** What was sent is written when the event loop turns. */
const EVENTS_PER_TURN = 256;
const DECISIONS_PER_TURN = 512;
/** Nobody waits here: an invocation without a place is counted and dropped. */
const QUEUE = { perLaneMax: 1, totalMax: 1 };
const UNLIMITED = Number.POSITIVE_INFINITY;

export interface FleetOptions {
  readonly nodes: number;
  readonly mix: FunctionMix;
  readonly callsPerSecond: number;
  readonly seed: number;
  readonly keepAlive: KeepAlive;
  /** Instead of the product's own. */
  readonly rank?: Rank;
  readonly signal: AbortSignal;
}

/** What was seen since {@link SimulatedFleet.forgetFigures}. */
export interface FleetFigures {
  calls: number;
  warm: number;
  refused: number;
  /** Real microseconds of each timed placement, and of the same one right after it. */
  readonly decisionUs: number[];
  readonly againUs: number[];
  /** Real microseconds of each report of a node, from the decoded message to an index that knows it. */
  readonly reportUs: number[];
  /** By function. */
  readonly callsOf: Uint32Array;
  readonly coldOf: Uint32Array;
  /** Idle memory × time: byte milliseconds, and the milliseconds. */
  idleByteMs: number;
  elapsedMs: number;
}

interface Running {
  readonly kind: 'end';
  readonly id: string;
  readonly placed: Placed;
  readonly sandbox: SimulatedSandbox;
}
type Event =
  | Running
  | { readonly kind: 'report'; readonly node: SimulatedNode }
  | { readonly kind: 'expire'; readonly sandbox: SimulatedSandbox };

/**
 * The scheduling of one replica as it is in the product (sessions, registry, ledger, view, ranking, placement), with nodes and calls
 * that are simulated in virtual time: an hour takes as long as its events.
 */
export class SimulatedFleet {
  readonly #random: Random;
  readonly #events = new EventQueue<Event>();
  readonly #nodes = new Map<string, SimulatedNode>();
  readonly #ledger = new MemoryPlacementLedger();
  readonly #registry: NodeRegistry;
  readonly #placement: Placement;
  readonly view: ClusterView;
  readonly #lastEndOf: Float64Array;
  /** Sandboxes that have an event for when they may be too old. */
  readonly #watched = new WeakSet<SimulatedSandbox>();
  figures: FleetFigures;
  #now = 0;
  #nextCallAt = 0;
  #calls = 0;
  #idleBytes = 0;
  #heartbeatAt = performance.now();

  constructor(private readonly options: FleetOptions) {
    this.#random = new Random(options.seed);
    this.#lastEndOf = new Float64Array(options.mix.functions.length).fill(-1);
    this.figures = noFigures(options.mix.functions.length);
    this.#registry = new NodeRegistry({
      onRoom: (nodeId) => {
        const capacity = this.#registry.session(nodeId)?.capacity;
        if (capacity === undefined) return;
        this.#ledger.setCapacity(nodeId, { memoryBytes: capacity.memoryBytesTotal, slots: capacity.slotsTotal });
        this.#placement.roomChanged();
      },
      onGone: (nodeId) => this.#ledger.removeNode(nodeId),
    });
    const view = new ConnectedNodesView(this.#registry, this.#ledger);
    this.view = view;
    const isolation = new IsolationPolicy('gvisor', view);
    this.#placement = new Placement({
      view,
      isolation,
      ledger: this.#ledger,
      unreservedOf: () => UNLIMITED,
      queue: QUEUE,
    });
    for (let n = 0; n < options.nodes; n += 1) this.#connect(new SimulatedNode(`node-${n}`));
  }

  forgetFigures(): void {
    this.figures = noFigures(this.options.mix.functions.length);
  }

  /**
   * Goes on until so many placements were timed. They are made, and given back, between the events and beside their calls: the nodes
   * that are simulated here are no part of a replica, and would fill the processor's caches with themselves.
   */
  async timeDecisions(decisions: number): Promise<void> {
    const { decisionUs } = this.figures;
    const time = (): void => {
      for (let n = 0; n < DECISIONS_PER_TURN; n += 1) this.#timeDecision();
    };
    await this.#run(() => decisionUs.length < decisions, time);
  }

  /** For so long in virtual time. */
  async runMs(milliseconds: number): Promise<void> {
    const until = this.#now + milliseconds;
    await this.#run(() => this.#now < until);
  }

  close(): void {
    this.#registry.close();
  }

  async #run(goesOn: () => boolean, atTurn: () => void = () => undefined): Promise<void> {
    for (let events = 0; goesOn(); events += 1) {
      this.#step();
      if (events % EVENTS_PER_TURN !== 0) continue;
      this.options.signal.throwIfAborted();
      await nextTurn();
      this.#heartbeat();
      atTurn();
    }
  }

  /** Twice: at first it waits for memory, the more so the more there is; then everything that it needs is near. */
  #timeDecision(): void {
    const { demand } = this.options.mix.pick(this.#random);
    for (const times of [this.figures.decisionUs, this.figures.againUs]) {
      const startedAt = performance.now();
      const placed = this.#place('timed', demand);
      times.push((performance.now() - startedAt) * 1_000);
      if (placed !== undefined) this.#placement.release(placed);
    }
  }

  #step(): void {
    const at = Math.min(this.#nextCallAt, this.#events.nextAt);
    this.figures.idleByteMs += this.#idleBytes * (at - this.#now);
    this.figures.elapsedMs += at - this.#now;
    this.#now = at;
    if (at === this.#nextCallAt) {
      this.#nextCallAt = at + this.#random.exponential(1_000 / this.options.callsPerSecond);
      this.#call(this.options.mix.pick(this.#random));
      return;
    }
    const event = this.#events.pop();
    if (event?.kind === 'end') this.#end(event);
    else if (event?.kind === 'report') this.#report(event.node);
    else if (event !== undefined) this.#expire(event.sandbox);
  }

  #call(of: SimulatedFunction): void {
    const { figures } = this;
    const id = `i${this.#calls}`;
    this.#calls += 1;
    const placed = this.#place(id, of.demand);
    figures.calls += 1;
    if (placed === undefined) {
      figures.refused += 1;
      return;
    }
    const node = this.#nodes.get(placed.reservation.nodeId);
    const session = this.#registry.session(placed.reservation.nodeId);
    if (node === undefined || session === undefined) throw new Error('placed on no node');
    void session.dispatch(of.version.spec, { ...REQUEST, id }, placed.isolation, 1, Number.MAX_SAFE_INTEGER);
    const idleBefore = node.idleBytes;
    const { sandbox, warm } = node.begin(of);
    this.#idleBytes += node.idleBytes - idleBefore;
    if (warm) figures.warm += 1;
    else figures.coldOf[of.index] = (figures.coldOf[of.index] ?? 0) + 1;
    figures.callsOf[of.index] = (figures.callsOf[of.index] ?? 0) + 1;
    const lastEnd = this.#lastEndOf[of.index] ?? -1;
    if (lastEnd >= 0) this.options.keepAlive.observeGap(of.index, this.#now - lastEnd);
    const durationMs = callDurationMs(of, this.#random) + (warm ? 0 : COLD_START_MS);
    this.#events.push(this.#now + durationMs, { kind: 'end', id, placed, sandbox });
    this.#reportSoon(node);
  }

  #place(id: string, demand: Demand): Placed | undefined {
    const { rank } = this.options;
    if (rank === undefined) {
      const placed = this.#placement.place(id, demand, undefined, 0, limitsOf(demand));
      return placed instanceof Promise || typeof placed === 'string' ? undefined : placed;
    }
    const candidates = rank(this.view, { ...demand, isolation: 'runc' });
    const request = {
      invocationId: id,
      candidates,
      amount: demand.amount,
      limits: limitsOf(demand),
      unreservedMax: UNLIMITED,
    };
    const reservation = this.#ledger.reserve(request);
    return typeof reservation === 'string' ? undefined : { reservation, isolation: 'runc', waited: false };
  }

  #end({ id, placed, sandbox }: Running): void {
    const { node, of } = sandbox;
    const session = this.#registry.session(node.id);
    session?.receive({ message: { $case: 'responseEnd', value: { ...END, invocationId: id } } });
    this.#placement.release(placed);
    node.end(sandbox, this.#now);
    this.#idleBytes += of.memoryBytes;
    this.#lastEndOf[of.index] = this.#now;
    if (!this.#watched.has(sandbox)) this.#watch(sandbox);
    this.#reportSoon(node);
  }

  #watch(sandbox: SimulatedSandbox): void {
    this.#watched.add(sandbox);
    this.#events.push(this.#expiresAt(sandbox), { kind: 'expire', sandbox });
  }

  #expiresAt({ idleSince, of }: SimulatedSandbox): number {
    return idleSince + this.options.keepAlive.keepAliveMs(of.index);
  }

  #expire(sandbox: SimulatedSandbox): void {
    this.#watched.delete(sandbox);
    if (sandbox.state !== 'idle') return;
    if (this.#expiresAt(sandbox) > this.#now) {
      this.#watch(sandbox);
      return;
    }
    sandbox.node.remove(sandbox);
    this.#idleBytes -= sandbox.of.memoryBytes;
    this.#reportSoon(sandbox.node);
  }

  #reportSoon(node: SimulatedNode): void {
    if (node.reportDue) return;
    node.reportDue = true;
    this.#events.push(Math.max(this.#now, node.reportedAt + REPORT_MS), { kind: 'report', node });
  }

  #report(node: SimulatedNode): void {
    node.reportDue = false;
    node.reportedAt = this.#now;
    const value = node.capacity();
    const startedAt = performance.now();
    this.#registry.session(node.id)?.receive({ message: { $case: 'capacity', value } });
    this.figures.reportUs.push((performance.now() - startedAt) * 1_000);
  }

  #heartbeat(): void {
    if (performance.now() - this.#heartbeatAt < HEARTBEAT_MS) return;
    this.#heartbeatAt = performance.now();
    // Of a build that nobody gave: it says that the node is there, and changes nothing.
    const value = { buildId: '', lines: [] };
    for (const session of this.#registry.sessions()) session.receive({ message: { $case: 'buildLog', value } });
  }

  #connect(node: SimulatedNode): void {
    this.#nodes.set(node.id, node);
    const session = new NodeSession(
      node.id,
      node.hello(),
      { write: () => true, end: () => undefined },
      {
        onCapacity: (of) => this.#registry.capacityChanged(of),
        onUnclaimedResult: () => undefined,
        onLogs: () => undefined,
        onDrainProgress: () => undefined,
        onLeaving: () => undefined,
        onSelfTest: () => undefined,
        onClosed: (of) => this.#registry.remove(of),
      },
      log,
    );
    this.#registry.add(session);
  }
}

/** Counted, and never reached. */
function limitsOf({ functionId }: Demand): ConcurrencyLimits {
  return concurrencyLimits(functionId, 'default', null, null);
}

const log = pino({ level: 'silent' });

const REQUEST = {
  ...{ kind: InvokeKind.EVENT, trigger: 'api', payload: Buffer.alloc(0), traceId: '', clientContext: '' },
  singleUse: false,
};

/** As much of a result as a session looks at. */
const END = {
  ...{ epoch: 1, outcome: Outcome.SUCCESS, body: Buffer.alloc(0), bodyBytes: 0, bodyStreamed: false },
} as unknown as ResponseEnd;

function noFigures(functions: number): FleetFigures {
  return {
    ...{ calls: 0, warm: 0, refused: 0, decisionUs: [], againUs: [], reportUs: [], idleByteMs: 0, elapsedMs: 0 },
    ...{ callsOf: new Uint32Array(functions), coldOf: new Uint32Array(functions) },
  };
}
