import type { ChannelCredentials } from '@grpc/grpc-js';
import type { Logger } from '@lambda-fleet/common/logger';
import type {
  Capacity,
  Drain,
  DrainProgress,
  Hello,
  InvocationRef,
  Leaving,
  ResponseEnd,
  SelfTestCheck,
  WarmFloor,
  Welcome,
} from '@lambda-fleet/proto';
import type { AgentInvocation, InvocationSink } from '../invocations/invocation.js';
import { FloorWishes } from './floor-wishes.js';
import { KeptResults } from './kept-results.js';
import { LeaseWatch } from './lease-watch.js';
import { Link } from './link.js';
import type { LinkBuilder } from './link-builds.js';
import type { LogBudget } from './log-shipper.js';
import { REPLICAS_MAX, type Replica, ReplicaList, type Resolve } from './replica-list.js';
import { SpecCache } from './spec-cache.js';

/** What the links need of the invocation runner. */
export interface LinkRunner {
  invoke(invocation: AgentInvocation, sink: InvocationSink): void;
  cancel(ref: InvocationRef): void;
  /** Ends everything that runs, as not started or as unknown. */
  cancelAll(): void;
  forget(versionIds: readonly string[]): void;
  warm(floors: readonly WarmFloor[]): void;
  capacity(): Capacity;
  running(): InvocationRef[];
}

export interface AgentLinksOptions {
  /** `host:port` of each replica, or of a name that stands for several. Tried for ever. */
  readonly addresses: readonly string[];
  /** Asked for each new session: certificates are renewed. */
  readonly credentials: () => ChannelCredentials;
  /** Everything of Hello but what is read at each connect. */
  readonly hello: Omit<Hello, 'capacity' | 'running' | 'keptResults'>;
  readonly runner: LinkRunner;
  /** Undefined builds no container images. */
  readonly builder?: LinkBuilder | undefined;
  /** Called at every Welcome. */
  readonly onWelcomed: () => void;
  /** The node is to be emptied, or not any more; every replica says so, again after each Welcome. */
  readonly onDrain: (drain: Drain) => void;
  /** Told every end of an invocation, once. */
  readonly onEnded?: (end: ResponseEnd) => void;
  /** For tests. */
  readonly resolve?: Resolve;
  readonly leaseClockMs?: () => number;
  readonly log: Logger;
}

/** How long a stopping agent waits for its last results to be recorded. */
const FAREWELL_MS = 2_000;

/** Capacity reports are joined to at most ten a second. */
const CAPACITY_LINGER_MS = 100;

/** A replica that nobody names any more and that does not answer for so long is gone. */
const DROP_AFTER_MS = 60_000;
const LOOK_MS = 10_000;

/** Those that are named, and those that were and are not given up yet. */
const LINKS_MAX = 2 * REPLICAS_MAX;

/**
 * Keeps the agent connected to every replica of the control plane, and owns what does not belong to one of them: results and
 * log lines that are not committed, the versions it was told of, the node's lease.
 *
 * What becomes of an invocation goes to the replica that sent it while that link is ready, and else over any link that is:
 * every replica can commit it.
 */
export class AgentLinks {
  readonly specs = new SpecCache(10_000);
  readonly results = new KeptResults<Link>({ resultsMax: 10_000, bytesMax: 64 * 1024 * 1024 });
  readonly logBudget: LogBudget = { used: 0, max: 32 * 1024 * 1024 };
  readonly floors: FloorWishes;
  readonly lease: LeaseWatch;
  readonly #links = new Map<string, Link>();
  readonly #replicas: ReplicaList;
  #closed = false;
  #leaving: Leaving | undefined;
  /** Why no image builds are taken now. */
  buildsRefusal: string | undefined;
  #capacityTimer: NodeJS.Timeout | undefined;
  #look: NodeJS.Timeout | undefined;

  constructor(readonly options: AgentLinksOptions) {
    const { addresses, resolve, leaseClockMs, runner, log } = options;
    this.floors = new FloorWishes((floors) => runner.warm(floors));
    this.lease = new LeaseWatch({
      onOver: () => runner.cancelAll(),
      ...(leaseClockMs === undefined ? {} : { clockMs: leaseClockMs }),
      log,
    });
    this.#replicas = new ReplicaList({
      configured: addresses,
      onChange: () => this.#dial(),
      ...(resolve === undefined ? {} : { resolve }),
      log,
    });
  }

  start(): void {
    this.lease.start();
    this.#look = setInterval(() => this.#dial(), LOOK_MS).unref();
    void this.#replicas.start();
  }

  /** Sends what is finished, then leaves. The caller has stopped the runner. */
  async close(): Promise<void> {
    this.#closed = true;
    this.lease.close();
    this.#replicas.close();
    clearInterval(this.#look);
    clearTimeout(this.#capacityTimer);
    for (const link of this.#links.values()) link.flushLogs();
    if (this.anyReady() !== undefined) await this.results.drained(FAREWELL_MS);
    for (const link of this.#links.values()) link.close('the agent is stopping');
    this.floors.close();
  }

  /** The links that are ready, in no order that means anything. */
  *ready(): Iterable<Link> {
    for (const link of this.#links.values()) if (link.readySession !== undefined) yield link;
  }

  anyReady(): Link | undefined {
    for (const link of this.ready()) return link;
    return undefined;
  }

  /** Every replica that is known now, linked or not. */
  replicas(): readonly Replica[] {
    return this.#replicas.current();
  }

  /** Over which to send what came over this link. */
  carrierFor(link: Link): Link | undefined {
    return link.readySession === undefined ? this.anyReady() : link;
  }

  /** Whose shipper keeps log lines until a link is ready. */
  keeperFor(link: Link): Link {
    if (this.#links.get(link.replica.address) === link) return link;
    const [first] = this.#links.values();
    return first ?? link;
  }

  /** Image builds that run, of all replicas. */
  get builds(): number {
    return [...this.#links.values()].reduce((sum, link) => sum + link.builds, 0);
  }

  /** Whether every result and log line is committed. */
  get settled(): boolean {
    return this.results.size === 0 && [...this.#links.values()].every((link) => link.settled);
  }

  /** Takes no builds while there is a reason not to. */
  refuseBuilds(reason: string | undefined): void {
    this.buildsRefusal = reason;
  }

  abandonBuilds(): void {
    for (const link of this.#links.values()) link.abandonBuilds();
  }

  reportDrain(progress: DrainProgress): void {
    for (const link of this.ready()) link.reportDrain(progress);
  }

  /** Says, now and at every later Welcome, that this agent is being stopped. */
  leave(boundMs: number): void {
    this.#leaving = { boundMs };
    for (const link of this.ready()) link.leave(this.#leaving);
  }

  /** The runner's capacity changed. */
  capacityChanged(): void {
    this.#capacityTimer ??= setTimeout(() => {
      this.#capacityTimer = undefined;
      const capacity = this.capacity();
      for (const link of this.ready()) link.reportCapacity(capacity);
    }, CAPACITY_LINGER_MS);
  }

  reportSelfTest(checks: SelfTestCheck[]): void {
    for (const link of this.ready()) link.reportSelfTest(checks);
  }

  /** What Hello says has changed. Ends all sessions; the next ones begin with a new Hello. */
  greetAgain(): void {
    for (const link of this.#links.values()) link.greetAgain();
  }

  capacity(): Capacity {
    return { ...this.options.runner.capacity(), sentMs: this.lease.nowMs() };
  }

  hello(): Hello {
    const { hello, runner } = this.options;
    return { ...hello, capacity: this.capacity(), running: runner.running(), keptResults: this.results.refs() };
  }

  linkedReplicas(): string[] {
    return [...this.ready()].flatMap(({ replicaId }) => replicaId ?? []);
  }

  /** An invocation ended, just now. */
  ending(end: ResponseEnd): void {
    this.lease.checkAfterPause();
    this.options.onEnded?.(end);
  }

  /** A session begins: it takes what other links could not send. */
  welcomed(link: Link, { peers }: Welcome): void {
    this.floors.begin(link);
    link.sendResults(this.results.takeOver(link));
    for (const other of this.#links.values()) {
      if (other.readySession === undefined) link.adoptLogs(other.releaseLogs());
    }
    this.announced(link, peers);
    if (this.#leaving !== undefined) link.leave(this.#leaving);
    this.options.onWelcomed();
  }

  announced(by: Link, peers: readonly string[]): void {
    this.#replicas.announce(by, peers);
  }

  /** A session that was ready is over: another link sends what is not acknowledged, marked as sent before. */
  lost(link: Link): void {
    this.floors.lost(link);
    this.results.lost(link);
    const next = this.#closed ? undefined : this.anyReady();
    if (next === undefined) return;
    next.adoptLogs(link.releaseLogs());
    next.sendResults(this.results.takeOver(next));
  }

  forget(versionIds: readonly string[]): void {
    this.specs.forget(versionIds);
    this.floors.forget(versionIds);
    this.options.runner.forget(versionIds);
  }

  /** Makes a link to each replica that is named, and gives up those that nobody names and that do not answer. */
  #dial(): void {
    if (this.#closed) return;
    this.#disbelieveTheGone();
    const named = this.#replicas.current();
    for (const replica of named) {
      if (this.#links.has(replica.address) || this.#links.size >= LINKS_MAX) continue;
      const link = new Link(replica, this);
      this.#links.set(replica.address, link);
      link.start();
    }
    const heir = this.anyReady();
    if (heir === undefined) return;
    const wanted = new Set(named.map(({ address }) => address));
    for (const [address, link] of this.#links) {
      if (wanted.has(address) || link.unreadyMs < DROP_AFTER_MS) continue;
      this.options.log.info({ address }, 'link_given_up');
      this.#links.delete(address);
      heir.adoptLogs(link.releaseLogs());
      link.close('nobody names this replica any more');
    }
  }

  /** A replica names itself and those that died with it: what one said that has not answered for so long counts no more. */
  #disbelieveTheGone(): void {
    if (this.anyReady() === undefined) return;
    for (const link of this.#links.values()) if (link.unreadyMs >= DROP_AFTER_MS) this.#replicas.forget(link);
  }
}
