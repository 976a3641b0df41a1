import { withDeadline } from '@lambda-fleet/common/deadline';
import { errorText } from '@lambda-fleet/common/errors';
import type { Logger } from '@lambda-fleet/common/logger';
import {
  type Capacity,
  type InvocationRef,
  InvokeKind,
  Outcome,
  RefusalReason,
  StartPath,
  type WarmFloor,
} from '@lambda-fleet/proto';
import type { ArtifactCache } from '../artifacts/artifact-cache.js';
import type { LinkedTrees } from '../artifacts/linked-trees.js';
import type { Isolation } from '../drivers/sandbox-driver.js';
import type { Sandbox } from '../sandboxes/sandbox.js';
import type { SandboxPool } from '../sandboxes/sandbox-pool.js';
import { alreadyChecked } from './already-checked.js';
import type { CompiledCode } from './compiled-code.js';
import type { AgentInvocation, InvocationSink } from './invocation.js';
import type { InvocationLog } from './invocation-log.js';
import { InvocationRun } from './invocation-run.js';
import type { SandboxOutput } from './sandbox-output.js';
import { type HostOffer, isolationFor, shapeOf } from './shape-of.js';
import { WarmFloors } from './warm-floors.js';

export interface InvocationRunnerOptions {
  readonly pool: SandboxPool;
  readonly artifacts: ArtifactCache;
  readonly trees: LinkedTrees;
  readonly compiled: CompiledCode;
  readonly offer: HostOffer;
  readonly log: Logger;
}

const CLOSE_DEADLINE_MS = 9_000;

/**
 * Runs invocations on this node. It has the last word on admission: an invocation gets a sandbox of its version that is
 * open, or a blank or new one where memory and a slot can be had, or is refused in the same turn.
 */
export class InvocationRunner {
  readonly #runs = new Map<string, InvocationRun>();
  readonly #outputs = new WeakMap<Sandbox, SandboxOutput>();
  readonly #floors: WarmFloors;
  #closing = false;
  /** Why it takes no new work. */
  #refusing: string | undefined;

  constructor(private readonly options: InvocationRunnerOptions) {
    this.#floors = new WarmFloors({
      pool: options.pool,
      offer: options.offer,
      start: (invocation, sink) => this.#startCheck(invocation, sink),
      log: options.log,
    });
    options.pool.onChange(() => this.#floors.poolChanged());
  }

  /** Returns at once; the sink is told the rest, a refusal before this returns. */
  invoke(invocation: AgentInvocation, sink: InvocationSink): void {
    const { pool, offer, log } = this.options;
    const { invoke, spec } = invocation;
    const refuse = (reason: RefusalReason, detail: string) => sink.refused(invocation, reason, detail);
    if (this.#closing || this.#refusing !== undefined) {
      refuse(RefusalReason.STOPPING, this.#refusing ?? 'the agent is stopping');
      return;
    }
    const isolation = isolationFor(offer, invoke.isolation);
    if (isolation === undefined) {
      refuse(RefusalReason.UNSUPPORTED_SANDBOX, `this node does not isolate with ${invoke.isolation}`);
      return;
    }
    if (this.#runs.has(keyOf(invoke))) {
      // Refusing would attest that nothing entered a sandbox, which is not so. The one that runs will answer.
      log.error({ invocation: invoke.invocationId, epoch: invoke.epoch }, 'invocation_arrived_twice');
      return;
    }
    const open = invoke.singleUse ? undefined : pool.openOf(spec.versionId, isolation);
    if (open === undefined) {
      this.#start(invocation, isolation, sink);
    } else if (invoke.kind === InvokeKind.CHECK) {
      sink.ended(alreadyChecked(invocation, open.id));
    } else {
      this.#run(invocation, sink, open, StartPath.WARM);
    }
  }

  /** Kills what runs under this reference. Does nothing when it has ended. */
  cancel(ref: InvocationRef): void {
    this.#runs.get(keyOf(ref))?.cancel();
  }

  /** Kills everything that runs, as {@link cancel} does. */
  cancelAll(): void {
    for (const run of this.#runs.values()) run.cancel();
  }

  running(): InvocationRef[] {
    return [...this.#runs.values()].map(({ invocation: { invoke } }) => ({
      invocationId: invoke.invocationId,
      epoch: invoke.epoch,
    }));
  }

  capacity(): Capacity {
    const capacity = this.options.pool.capacity();
    return this.#refusing === undefined ? capacity : { ...capacity, slotsFree: 0 };
  }

  /** Takes no new work while there is a reason not to. */
  refuse(reason: string | undefined): void {
    this.#refusing = reason;
    this.options.pool.resting = reason !== undefined;
  }

  /** What runs, and how long it may still take by its own deadlines. */
  load(): { readonly inFlight: number; readonly inFlightMs: number; readonly sandboxes: number } {
    const now = performance.now();
    let inFlightMs = 0;
    for (const run of this.#runs.values()) inFlightMs = Math.max(inFlightMs, run.leftMs(now));
    return { inFlight: this.#runs.size, inFlightMs: Math.ceil(inFlightMs), sandboxes: this.options.pool.size };
  }

  /** Gives up what nobody uses; what is kept ready for a floor only when that is to go too. */
  giveUpIdle(floorsToo: boolean): void {
    if (floorsToo) this.#floors.clear();
    this.options.pool.giveUpIdle(floorsToo);
  }

  /** Asks what runs to end, and kills it after `graceMs`. Resolves when all of it has ended, with how many were cut short. */
  async endAll(graceMs: number): Promise<number> {
    const runs = [...this.#runs.values()];
    for (const run of runs) run.terminate();
    const kill = setTimeout(() => {
      for (const run of runs) run.kill();
    }, graceMs);
    await Promise.all(runs.map((run) => run.finished));
    clearTimeout(kill);
    return runs.filter(({ outcome }) => outcome === Outcome.UNKNOWN || outcome === Outcome.NOT_STARTED).length;
  }

  /** Called at every change, in its turn; whoever reports it coalesces. */
  onCapacityChange(listener: () => void): void {
    this.options.pool.onChange(listener);
  }

  /** How many sandboxes of these versions to keep ready, instead of what was said before of each. */
  warm(floors: readonly WarmFloor[]): void {
    this.#floors.set(floors);
  }

  forget(versionIds: readonly string[]): void {
    this.#floors.forget(versionIds);
    this.options.pool.forget(versionIds);
  }

  /**
   * Refuses new work, ends what runs (as unknown, or not started) and stops all sandboxes; 9 s at most. The sink has
   * every end before this resolves. Never rejects.
   */
  async close(): Promise<void> {
    this.#closing = true;
    this.#floors.close();
    const ends = [...this.#runs.values()].map((run) => run.finished);
    try {
      const done = Promise.all([this.options.pool.close(), ...ends]).then(() => undefined);
      await withDeadline('ending all invocations', CLOSE_DEADLINE_MS, done);
    } catch (err) {
      this.options.log.error({ err: errorText(err) }, 'sandboxes_left');
    }
  }

  #start(invocation: AgentInvocation, isolation: Isolation, sink: InvocationSink, invocationLog?: InvocationLog): void {
    const { pool, offer } = this.options;
    const { spec } = invocation;
    const shape = shapeOf(spec, isolation, offer);
    if (typeof shape === 'string') {
      const known = offer.runtimes.has(spec.runtime);
      const reason = known ? RefusalReason.UNSUPPORTED_SANDBOX : RefusalReason.UNSUPPORTED_RUNTIME;
      sink.refused(invocation, reason, shape);
      return;
    }
    const sandbox = pool.claim(shape);
    if (sandbox === undefined) {
      sink.refused(invocation, RefusalReason.NO_CAPACITY, noCapacity(spec.memoryMb, pool.capacity()));
      return;
    }
    // One that still boots saves less than it promises.
    this.#run(invocation, sink, sandbox, sandbox.state === 'blank' ? StartPath.BLANK : StartPath.COLD, invocationLog);
  }

  #startCheck(invocation: AgentInvocation, sink: InvocationSink): void {
    const isolation = isolationFor(this.options.offer, invocation.invoke.isolation);
    if (this.#refusing !== undefined) sink.refused(invocation, RefusalReason.STOPPING, this.#refusing);
    else if (isolation === undefined) sink.refused(invocation, RefusalReason.UNSUPPORTED_SANDBOX, 'no such isolation');
    else this.#start(invocation, isolation, sink);
  }

  #run(
    invocation: AgentInvocation,
    sink: InvocationSink,
    sandbox: Sandbox,
    start: StartPath,
    invocationLog?: InvocationLog,
  ): void {
    const options = { ...this.options, invocation, sink, outputs: this.#outputs, invocationLog };
    const run = new InvocationRun(options, sandbox, start);
    const key = keyOf(invocation.invoke);
    this.#runs.set(key, run);
    void run.finished.then((missed) => {
      this.#runs.delete(key);
      // A program that ends after its answer may be found out only by the next invocation.
      if (missed === undefined) return;
      if (this.#refusing === undefined) this.#start(invocation, sandbox.kind.isolation, sink, missed);
      else sink.refused(invocation, RefusalReason.STOPPING, this.#refusing);
    });
  }
}

function keyOf(ref: InvocationRef): string {
  return `${ref.invocationId}/${ref.epoch}`;
}

function noCapacity(memoryMb: number, capacity: Capacity): string {
  const freeMb = Math.floor(capacity.memoryBytesFree / (1024 * 1024));
  return `it needs ${memoryMb} MB and a slot; ${freeMb} MB and ${capacity.slotsFree} slots are free`;
}
