import { withDeadline } from '@lambda-fleet/common/deadline';
import { errorText } from '@lambda-fleet/common/errors';
import type { Logger } from '@lambda-fleet/common/logger';
import { isRuntimeName, type RuntimeName } from '@lambda-fleet/common/runtime-names';
import { type Capacity, type InvocationRef, InvokeKind, RefusalReason } from '@lambda-fleet/proto';
import type { ArtifactCache } from '../artifacts/artifact-cache.js';
import type { Sandbox } from '../sandboxes/sandbox.js';
import type { SandboxPool } from '../sandboxes/sandbox-pool.js';
import { alreadyChecked } from './already-checked.js';
import type { AgentInvocation, InvocationSink } from './invocation.js';
import { InvocationRun } from './invocation-run.js';
import type { SandboxOutput } from './sandbox-output.js';

export interface InvocationRunnerOptions {
  readonly pool: SandboxPool;
  readonly artifacts: ArtifactCache;
  /** What the driver can start. */
  readonly runtimes: ReadonlySet<RuntimeName>;
  readonly log: Logger;
}

const CLOSE_DEADLINE_MS = 9_000;

/**
 * Runs invocations on this node. It has the last word on admission: an invocation gets an idle sandbox of its version, or a new
 * one where memory and a slot can be had, or is refused in the same turn.
 */
export class InvocationRunner {
  readonly #runs = new Map<string, InvocationRun>();
  readonly #outputs = new WeakMap<Sandbox, SandboxOutput>();
  #closing = false;

  constructor(private readonly options: InvocationRunnerOptions) {}

  /** Returns at once; the sink is told the rest, a refusal before this returns. */
  invoke(invocation: AgentInvocation, sink: InvocationSink): void {
    const { pool, artifacts, log } = this.options;
    const { invoke, spec } = invocation;
    if (this.#closing) {
      sink.refused(invocation, RefusalReason.STOPPING, 'the agent is stopping');
      return;
    }
    const { runtime } = spec;
    if (!isRuntimeName(runtime) || !this.options.runtimes.has(runtime)) {
      sink.refused(invocation, RefusalReason.UNSUPPORTED_RUNTIME, `this node has no runtime ${runtime}`);
      return;
    }
    const key = keyOf(invoke);
    if (this.#runs.has(key)) {
      // Refusing would attest that nothing entered a sandbox, which is not so. The one that runs will answer.
      log.error({ invocation: invoke.invocationId, epoch: invoke.epoch }, 'invocation_arrived_twice');
      return;
    }
    const warm = invoke.singleUse ? undefined : pool.idleOf(spec.versionId);
    if (warm !== undefined && invoke.kind === InvokeKind.CHECK) {
      sink.ended(alreadyChecked(invocation, warm.id));
      return;
    }
    const sandbox = warm ?? pool.claim({ ...spec, runtime });
    if (sandbox === undefined) {
      sink.refused(invocation, RefusalReason.NO_CAPACITY, noCapacity(spec.memoryMb, pool.capacity()));
      return;
    }
    const run = new InvocationRun(
      { invocation, sink, pool, artifacts, outputs: this.#outputs, log },
      sandbox,
      warm !== undefined,
    );
    this.#runs.set(key, run);
    void run.finished.then(() => this.#runs.delete(key));
  }

  /** Kills what runs under this reference. Does nothing when it has ended. */
  cancel(ref: InvocationRef): void {
    this.#runs.get(keyOf(ref))?.cancel();
  }

  running(): InvocationRef[] {
    return [...this.#runs.values()].map(({ invocation: { invoke } }) => ({
      invocationId: invoke.invocationId,
      epoch: invoke.epoch,
    }));
  }

  capacity(): Capacity {
    return this.options.pool.capacity();
  }

  /** Called at every change, in its turn; whoever reports it coalesces. */
  onCapacityChange(listener: () => void): void {
    this.options.pool.onChange(listener);
  }

  forget(versionIds: readonly string[]): void {
    this.options.pool.forget(versionIds);
  }

  /**
   * Refuses new work, ends what runs (as unknown, or not started) and stops all sandboxes; 9 s at most. The sink has
   * every end before this resolves. Never rejects.
   */
  async close(): Promise<void> {
    this.#closing = true;
    const ends = [...this.#runs.values()].map((run) => run.finished);
    try {
      const done = Promise.all([this.options.pool.close(), ...ends]).then(() => undefined);
      await withDeadline('ending all invocations', CLOSE_DEADLINE_MS, done);
    } catch (err) {
      this.options.log.error({ err: errorText(err) }, 'sandboxes_left');
    }
  }
}

function keyOf(ref: InvocationRef): string {
  return `${ref.invocationId}/${ref.epoch}`;
}

function noCapacity(memoryMb: number, capacity: Capacity): string {
  const freeMb = Math.floor(capacity.memoryBytesFree / (1024 * 1024));
  return `it needs ${memoryMb} MB and a slot; ${freeMb} MB and ${capacity.slotsFree} slots are free`;
}
