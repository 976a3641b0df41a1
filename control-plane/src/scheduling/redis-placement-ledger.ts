import { randomUUID } from 'node:crypto';
import type { Logger } from '@lambda-fleet/common/logger';
import type { Secret } from '@lambda-fleet/common/secret';
import { RedisConnection, type RedisScript } from '../redis/redis-connection.js';
import {
  changeArguments,
  countedIn,
  fieldsOf,
  isSamePart,
  OthersReserved,
  partOf,
  publishArguments,
  shareOf,
} from './ledger-part.js';
import {
  ACCOUNT_LIMIT,
  CHANGE,
  FUNCTION_LIMIT,
  LEAVE,
  LEDGER_SCRIPTS,
  NO_LIMIT,
  PUBLISH,
  REFRESH,
  RESERVE,
  RESERVED,
  STALE,
} from './ledger-scripts.js';
import { MemoryPlacementLedger } from './memory-placement-ledger.js';
import type {
  NodeCapacity,
  NotReserved,
  PlacementLedger,
  Reservation,
  ReservationRequest,
} from './placement-ledger.js';

export interface RedisPlacementLedgerOptions {
  readonly url: Secret;
  /** Others have given something back. */
  readonly onRoom: () => void;
  readonly log: Logger;
  /** How long what a dead replica has reserved stays reserved, milliseconds; default {@link LEASE_MS}. */
  readonly leaseMs?: number;
  /** How long a reservation waits for Redis, milliseconds; default {@link ANSWER_MS}. */
  readonly answerMs?: number;
}

type LedgerState = 'apart' | 'joining' | 'joined' | 'closed';

const LEASE_MS = 15_000;
const REFRESH_MS = 250;
/** Totals are summed anew from the parts so often. */
const SUM_MS = 60_000;

/** A caller waits for no more than this before the replica decides alone. */
const ANSWER_MS = 100;
/** Nobody waits for these. */
const BACKGROUND_MS = 1_000;

const CANDIDATES_MAX = 16;
const MILLI = 1_000;

/**
 * The ledger that several replicas share through Redis. `docs/redis.md` has the states and what happens when something dies.
 *
 * Its own reservations are always in memory here; what Redis has of them is a copy under this replica's name and epoch. Each
 * time that the two may differ, the whole is published anew under the next epoch, and what bears an older one changes nothing.
 */
export class RedisPlacementLedger implements PlacementLedger {
  readonly #replica = randomUUID();
  readonly #answerMs: number;
  readonly #backgroundMs: number;
  readonly #own = new MemoryPlacementLedger();
  readonly #others = new OthersReserved();
  readonly #connection: RedisConnection;
  readonly #refresh: NodeJS.Timeout;
  #changed: (nodeId: string) => void = () => undefined;
  #state: LedgerState = 'apart';
  #epoch = 0;
  /** Reservations that Redis is asked for. */
  #asking = 0;
  /** As last seen alive, this one included. */
  #replicas = 1;
  #decidedAlone = 0;
  /** Settles when what was published again on a connection that works has been taken, or not. */
  #published: Promise<void> | undefined;
  /** Redis has said since the last look that there is no room. */
  #refused = false;

  constructor(private readonly options: RedisPlacementLedgerOptions) {
    const { url, log, answerMs = ANSWER_MS } = options;
    this.#answerMs = answerMs;
    this.#backgroundMs = Math.max(answerMs, BACKGROUND_MS);
    this.#connection = new RedisConnection({
      ...{ url, log, scripts: LEDGER_SCRIPTS },
      onUp: () => void this.#join(this.#backgroundMs),
      onDown: (reason) => this.#part(reason),
    });
    this.#refresh = setInterval(() => void this.#look(), REFRESH_MS).unref();
  }

  get state(): LedgerState {
    return this.#state;
  }

  /** Reservations that were asked for while Redis did not decide. */
  get decidedAlone(): number {
    return this.#decidedAlone;
  }

  onChange(listener: (nodeId: string) => void): void {
    this.#changed = listener;
    this.#own.onChange(listener);
  }

  setCapacity(nodeId: string, capacity: NodeCapacity): void {
    this.#own.setCapacity(nodeId, capacity);
  }

  removeNode(nodeId: string): void {
    const forgotten = this.#own.removeNode(nodeId);
    if (forgotten.length > 0) this.#tell(forgotten.flatMap((reservation) => changeArguments(-1, reservation)));
  }

  reserve(request: ReservationRequest): Reservation | NotReserved | Promise<Reservation | NotReserved> {
    if (this.#state !== 'joined' && this.#published === undefined) return this.#reserveAlone(request);
    const nodes = request.candidates.filter((nodeId) => this.#own.capacity(nodeId) !== undefined);
    // Nothing to ask for: a limit that is reached by what is held here is reached.
    if (nodes.length === 0) return this.#own.reserve(request);
    const candidates = nodes.slice(0, CANDIDATES_MAX);
    return this.#state === 'joined' ? this.#ask(request, candidates, true) : this.#askAnew(request, candidates);
  }

  release(reservation: Reservation): void {
    if (this.#own.release(reservation)) this.#tell(changeArguments(-1, reservation));
  }

  free(nodeId: string): NodeCapacity {
    const own = this.#own.free(nodeId);
    const others = this.#others.get(nodeId);
    if (others === undefined) return own;
    return {
      memoryBytes: Math.max(0, own.memoryBytes - others.memoryBytes),
      slots: Math.max(0, own.slots - others.milliSlots / MILLI),
    };
  }

  async close(): Promise<void> {
    if (this.#state === 'closed') return;
    clearInterval(this.#refresh);
    const member = this.#state === 'joined';
    this.#become('closed');
    // Where this fails, the lease ends by itself.
    if (member) await this.#call(LEAVE, [], this.#backgroundMs).catch(() => undefined);
    this.#connection.close();
  }

  /** Once what is held here was published again; alone if it cannot be. */
  async #askAnew(request: ReservationRequest, nodes: readonly string[]): Promise<Reservation | NotReserved> {
    await this.#published;
    return this.#state === 'joined' ? this.#ask(request, nodes, false) : this.#reserveAlone(request);
  }

  /** @param anew whether it may be asked once more when what Redis has of this replica is found to be wrong */
  async #ask(request: ReservationRequest, nodes: readonly string[], anew: boolean): Promise<Reservation | NotReserved> {
    const epoch = this.#epoch;
    const { amount, limits, unreservedMax } = request;
    const whole = amount === 'whole-node';
    const [functionId, projectId] = countedIn(limits);
    const capacities = nodes.map((nodeId) => ({ ...(this.#own.capacity(nodeId) ?? { memoryBytes: 0, slots: 0 }) }));
    const args = [
      ...[functionId, limits?.max ?? NO_LIMIT, projectId, Number.isFinite(unreservedMax) ? unreservedMax : NO_LIMIT],
      ...(whole ? [0, 0, 1] : [amount.memoryBytes, amount.milliSlots, 0]),
      ...nodes.flatMap((nodeId, at) => [
        nodeId,
        capacities[at]?.memoryBytes ?? 0,
        (capacities[at]?.slots ?? 0) * MILLI,
      ]),
    ];
    this.#asking += 1;
    const [code, ...answer] = await this.#call(RESERVE, args, this.#answerMs)
      .catch(() => [STALE])
      .finally(() => (this.#asking -= 1));
    if (code === STALE) this.#publishAgain(epoch);
    // Whatever was done under an epoch that is over is not in what was published since.
    if (code === STALE || epoch !== this.#epoch || this.#state !== 'joined') {
      return anew ? this.#askAnew(request, nodes) : this.#reserveAlone(request);
    }
    if (code === FUNCTION_LIMIT) return 'function_limit';
    if (code === ACCOUNT_LIMIT) return 'account_limit';
    const [at = 0, memoryBytes = 0, milliSlots = 0] = answer.map(Number);
    const [nodeId, capacity] = [nodes[at], capacities[at]];
    if (code !== RESERVED || nodeId === undefined || capacity === undefined) {
      this.#refused = true;
      return 'no_room';
    }
    const taken = whole ? { memoryBytes: capacity.memoryBytes, milliSlots: capacity.slots * MILLI } : amount;
    this.#others.set(nodeId, { memoryBytes, milliSlots });
    const reservation = this.#own.enter(request, nodeId, taken);
    if (reservation !== undefined) return reservation;
    // The node was removed while Redis was asked.
    this.#tell(changeArguments(-1, { invocationId: request.invocationId, nodeId, amount: taken, limits }));
    return 'no_room';
  }

  #reserveAlone(request: ReservationRequest): Reservation | NotReserved {
    this.#decidedAlone += 1;
    const answer = this.#own.reserve(shareOf(request, this.#replicas));
    if (typeof answer !== 'string') this.#tell(changeArguments(1, answer));
    return answer;
  }

  /** Lets Redis know what changed here. While apart that is part of what will be published. */
  #tell(changes: (string | number)[]): void {
    if (this.#state !== 'joining' && this.#state !== 'joined') return;
    const epoch = this.#epoch;
    this.#call(CHANGE, changes, this.#backgroundMs).then(
      ([code]) => code === STALE && this.#publishAgain(epoch),
      // The connection was cut, and all of it is published on the next one.
      () => undefined,
    );
  }

  /** Publishes all that is held here. What is sent behind it changes that. Never rejects. */
  async #join(deadlineMs: number): Promise<void> {
    if (this.#state === 'closed') return;
    this.#become('joining');
    this.#epoch += 1;
    const epoch = this.#epoch;
    const part = publishArguments(partOf(this.#own.held));
    const [code] = await this.#call(PUBLISH, [this.options.leaseMs ?? LEASE_MS, ...part], deadlineMs).catch(() => []);
    if (code === undefined || epoch !== this.#epoch || this.#state !== 'joining') return;
    if (code === STALE) return this.#join(deadlineMs);
    this.#become('joined');
    void this.#look();
  }

  /** @param epoch under which something was refused; a later one may be in use already */
  #publishAgain(epoch: number): void {
    if (epoch !== this.#epoch || this.#state !== 'joined') return;
    const published = this.#join(this.#answerMs).finally(() => {
      if (this.#published === published) this.#published = undefined;
    });
    this.#published = published;
  }

  #part(reason: string): void {
    if (this.#state === 'closed') return;
    this.options.log.warn({ reason, replicas: this.#replicas }, 'placing_without_redis');
    this.#become('apart');
    this.#seeOthers(new Map(), new Map());
  }

  /** Renews the lease, looks what others hold, and whether Redis has what is held here. */
  async #look(): Promise<void> {
    if (this.#state !== 'joined') return;
    const epoch = this.#epoch;
    const expected = this.#asking === 0 ? partOf(this.#own.held) : undefined;
    const answer = await this.#call(REFRESH, [this.options.leaseMs ?? LEASE_MS, SUM_MS], this.#backgroundMs).catch(
      () => [],
    );
    if (answer.length === 0 || epoch !== this.#epoch || this.#state !== 'joined') return;
    if (answer[0] === STALE) return this.#publishAgain(epoch);
    const [replicas, all, nodes, counts] = answer.slice(1) as [number, unknown[], unknown[], unknown[]];
    const own = { nodes: fieldsOf(nodes), counts: fieldsOf(counts) };
    if (expected !== undefined && !isSamePart(expected, own)) {
      this.options.log.warn({ replica: this.#replica }, 'redis_ledger_differs');
      return this.#publishAgain(epoch);
    }
    this.#replicas = replicas;
    this.#seeOthers(fieldsOf(all), own.nodes);
  }

  #seeOthers(all: ReadonlyMap<string, number>, own: ReadonlyMap<string, number>): void {
    const { changed, freed } = this.#others.replace(all, own);
    for (const nodeId of changed) this.#changed(nodeId);
    // What took the room may be over already, and was never seen here.
    const refused = this.#refused;
    this.#refused = false;
    if (freed || refused) this.options.onRoom();
  }

  #call(script: RedisScript, args: readonly (string | number)[], deadlineMs: number): Promise<unknown[]> {
    return this.#connection.call(script, [this.#replica, this.#epoch, ...args], deadlineMs) as Promise<unknown[]>;
  }

  #become(next: LedgerState): void {
    if (this.#state === 'closed') throw new Error(`The ledger is closed and cannot become ${next}.`);
    if (next === 'joined' && this.#state !== 'joining') throw new Error('Nothing was published.');
    if (next === 'joined') this.options.log.info({ replica: this.#replica }, 'placing_with_redis');
    this.#state = next;
  }
}
