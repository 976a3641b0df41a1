import { errorText } from '@lambda-fleet/common/errors';
import { imageLoadMs } from '@lambda-fleet/common/image-load';
import type { Logger } from '@lambda-fleet/common/logger';
import { InvokeKind, type Outcome, type ResponseEnd, StartPath } from '@lambda-fleet/proto';
import type { ArtifactCache, ArtifactLease } from '../artifacts/artifact-cache.js';
import type { LinkedTrees } from '../artifacts/linked-trees.js';
import { ChannelClosed, type InitMessage } from '../channel/conversation.js';
import { RunAbandoned } from '../sandboxes/run-deadlines.js';
import type { Sandbox } from '../sandboxes/sandbox.js';
import type { SandboxPool } from '../sandboxes/sandbox-pool.js';
import type { CompiledCode } from './compiled-code.js';
import type { AgentInvocation, InvocationSink } from './invocation.js';
import { InvocationLog } from './invocation-log.js';
import { Meter, microsecondsSince } from './meter.js';
import { SandboxOutput } from './sandbox-output.js';
import {
  CHECKED,
  fromAbandoned,
  fromEnd,
  fromError,
  fromResult,
  notStarted,
  type Phase,
  type Verdict,
} from './verdict.js';

export interface InvocationRunOptions {
  readonly invocation: AgentInvocation;
  readonly sink: InvocationSink;
  readonly pool: SandboxPool;
  readonly artifacts: ArtifactCache;
  readonly trees: LinkedTrees;
  readonly compiled: CompiledCode;
  /** Where the output of each sandbox goes; shared by all runs, because a sandbox outlives them. */
  readonly outputs: WeakMap<Sandbox, SandboxOutput>;
  /** Of an invocation that missed another sandbox. */
  readonly invocationLog: InvocationLog | undefined;
  readonly log: Logger;
}

/** A place, a boot and the code; what takes longer has failed. */
const START_MS_MAX = 60_000;

/** One accepted invocation in its sandbox. */
export class InvocationRun {
  /**
   * Resolves after the sink has the end. Or with the invocation's log, and without an end, when its sandbox, warm, turned
   * out to have ended before the event entered it: another can take the invocation. Never rejects.
   */
  readonly finished: Promise<InvocationLog | undefined>;
  readonly #startedAtUnixMs = Date.now();
  readonly #meter = new Meter();
  readonly #log: InvocationLog;
  #phase: Phase = 'boot';
  #runSince = 0;
  #outcome: Outcome | undefined;
  #keep: boolean;

  /** A warm sandbox is open, any other only claimed. */
  constructor(
    private readonly options: InvocationRunOptions,
    private readonly sandbox: Sandbox,
    start: StartPath,
  ) {
    this.#log = options.invocationLog ?? new InvocationLog(options.invocation, options.sink);
    this.#keep = !options.invocation.invoke.singleUse;
    this.#meter.start = start;
    this.finished = this.#finish(start === StartPath.WARM ? this.#runWarm() : this.#runNew());
  }

  /** How long it may still take by its own deadlines, milliseconds. */
  leftMs(now: number): number {
    const { spec, arrivedAt } = this.invocation;
    if (this.#phase === 'run') return Math.max(0, this.#runSince + spec.timeoutMs - now);
    const startMs = START_MS_MAX + imageLoadMs(spec.image) + spec.initTimeoutMs;
    return Math.max(0, arrivedAt + startMs + spec.timeoutMs - now);
  }

  /** Undefined until it has ended. */
  get outcome(): Outcome | undefined {
    return this.#outcome;
  }

  /** Asks the processes of its sandbox to end. */
  terminate(): void {
    this.#keep = false;
    this.sandbox.terminate('drained');
  }

  /** Ends as not started or, when its payload has entered, as unknown; with it whatever runs in its sandbox. */
  kill(): void {
    this.sandbox.stop('drained');
  }

  get invocation(): AgentInvocation {
    return this.options.invocation;
  }

  /** Ends as not started or, when its payload has entered, as unknown. Its sandbox is killed, unless others run in it. */
  cancel(): void {
    this.sandbox.abandon(this.invocation.invoke.invocationId, 'cancelled');
  }

  async #finish(work: Promise<Verdict>): Promise<InvocationLog | undefined> {
    const { pool, sink } = this.options;
    let verdict: Verdict;
    try {
      verdict = await work;
    } catch (err) {
      if (this.#meter.start === StartPath.WARM && isMissed(err)) {
        this.options.outputs.get(this.sandbox)?.end(this.invocation.invoke.invocationId);
        return this.#log;
      }
      verdict = await this.#afterFailure(err);
    }
    this.#outcome = verdict.outcome;
    this.#meter.finish();
    this.#log.finish();
    this.options.outputs.get(this.sandbox)?.end(this.invocation.invoke.invocationId);
    pool.giveBack(this.sandbox, this.#keep);
    sink.ended(this.#end(verdict));
    return undefined;
  }

  #runWarm(): Promise<Verdict> {
    const { arrivedAt } = this.invocation;
    this.#meter.queueUs = microsecondsSince(arrivedAt);
    this.#meter.begin(this.sandbox);
    this.options.outputs.get(this.sandbox)?.begin(this.invocation.invoke.invocationId, this.#log);
    return this.#invoke();
  }

  /** In a blank, or in a sandbox that is made for it. */
  async #runNew(): Promise<Verdict> {
    const { invocation, outputs } = this.options;
    const { invoke } = invocation;
    const claimedAt = performance.now();
    const { lease, waitedMs } = await this.#bootWithCode();
    if (lease !== undefined) {
      void this.sandbox.settled.then(() => lease.release());
      await Promise.all([
        this.options.trees.place(lease.tree, lease.files, this.sandbox.taskDir),
        this.options.compiled.place(invocation.spec, this.sandbox),
      ]);
    }
    this.#meter.queueUs = Math.round((claimedAt - invocation.arrivedAt + waitedMs) * 1000);
    this.#meter.sandboxUs = Math.max(0, microsecondsSince(claimedAt) - Math.round(waitedMs * 1000));

    const output = new SandboxOutput(this.sandbox.shape.concurrency);
    output.begin(invoke.invocationId, this.#log);
    outputs.set(this.sandbox, output);
    this.sandbox.listen(output);
    this.#phase = 'init';
    this.#meter.begin(this.sandbox);
    const initAt = performance.now();
    const init = await this.sandbox.specialise(initMessage(invocation, this.sandbox));
    this.#meter.initUs = microsecondsSince(initAt);
    if (!init.ready) {
      this.#meter.finish();
      this.sandbox.stop('init_failed');
      return fromError(init.error, init.location);
    }
    if (!invoke.singleUse) this.options.compiled.loaded(invocation.spec, this.sandbox.shape, this.#meter.initUs);
    if (invoke.kind === InvokeKind.CHECK) return CHECKED;
    if (!this.sandbox.release()) throw new ChannelClosed(undefined);
    return this.#invoke();
  }

  /** Boots the sandbox and fetches the code at the same time. A container image is its own code. */
  async #bootWithCode(): Promise<{ readonly lease: ArtifactLease | undefined; readonly waitedMs: number }> {
    const { pool, artifacts } = this.options;
    const { image, artifactSha256 } = this.invocation.spec;
    const [booted, leased] = await Promise.allSettled([
      pool.prepare(this.sandbox),
      image === undefined ? artifacts.acquire(artifactSha256) : undefined,
    ]);
    if (booted.status === 'fulfilled' && leased.status === 'fulfilled') {
      return { lease: leased.value, waitedMs: booted.value };
    }
    if (leased.status === 'fulfilled') leased.value?.release();
    throw booted.status === 'rejected' ? booted.reason : (leased as PromiseRejectedResult).reason;
  }

  async #invoke(): Promise<Verdict> {
    const { invoke, spec, payload } = this.invocation;
    this.#phase = 'run';
    this.#runSince = performance.now();
    const { result, runUs } = await this.sandbox.invoke(
      {
        id: invoke.invocationId,
        deadlineMs: Date.now() + spec.timeoutMs,
        arn: spec.arn,
        traceId: invoke.traceId,
        clientContext: invoke.clientContext,
        http: invoke.kind === InvokeKind.HTTP,
      },
      payload,
    );
    this.#meter.runUs = runUs;
    // It may still take a moment to end, in which the next invocation must not be given to it.
    if (result.kind === 'error' && result.error.exiting) this.#keep = false;
    return fromResult(result);
  }

  /** The sandbox has ended, or something of the platform failed before the payload entered it. */
  async #afterFailure(err: unknown): Promise<Verdict> {
    const { log } = this.options;
    const { invoke } = this.invocation;
    this.#meter.finish();
    if (err instanceof RunAbandoned) return fromAbandoned(err.reason, invoke.invocationId, this.sandbox.shape);
    if (this.#phase === 'run' && isMissed(err)) {
      return notStarted('The program ended before it took the event.');
    }
    if (this.#phase === 'boot') {
      log.warn({ err, invocation: invoke.invocationId, sandbox: this.sandbox.id }, 'sandbox_start_failed');
      this.sandbox.stop('boot_failed');
      const end = await this.sandbox.ended;
      if (end.kind === 'stopped' && end.reason === 'boot_failed') return notStarted(errorText(err));
    } else if (!(err instanceof ChannelClosed)) {
      log.error({ err, invocation: invoke.invocationId, sandbox: this.sandbox.id }, 'invocation_failed');
      this.sandbox.stop('cancelled');
    }
    return fromEnd(await this.sandbox.ended, this.#phase, invoke.invocationId, this.sandbox.shape);
  }

  #end(verdict: Verdict): ResponseEnd {
    const { invoke, spec } = this.invocation;
    const body = verdict.body ?? Buffer.alloc(0);
    return {
      invocationId: invoke.invocationId,
      epoch: invoke.epoch,
      versionId: spec.versionId,
      projectId: spec.projectId,
      functionId: spec.functionId,
      trigger: invoke.trigger,
      startedAtUnixMs: this.#startedAtUnixMs,
      outcome: verdict.outcome,
      http: verdict.http,
      bodyBytes: body.length,
      bodyStreamed: false,
      body,
      error: verdict.error,
      receipt: this.#meter.receipt(verdict.fault),
      replayed: false,
      functionName: spec.functionName,
      versionNumber: spec.versionNumber,
      memoryMb: spec.memoryMb,
      kind: invoke.kind,
      grant: invoke.grant,
    };
  }
}

/** It is certain that nothing of the event has entered the sandbox. */
function isMissed(err: unknown): boolean {
  return err instanceof ChannelClosed && !err.entered;
}

function initMessage({ spec }: AgentInvocation, sandbox: Sandbox): InitMessage {
  const day = new Date().toISOString().slice(0, 10).replaceAll('-', '/');
  return {
    handler: spec.handler,
    functionName: spec.functionName,
    functionVersion: String(spec.versionNumber),
    functionArn: spec.arn,
    memoryMb: spec.memoryMb,
    timeoutMs: spec.timeoutMs,
    environment: spec.environment,
    logGroup: `/aws/lambda/${spec.functionName}`,
    logStream: `${day}/[${spec.versionNumber}]${sandbox.id}`,
    concurrency: Math.max(1, spec.concurrency),
    realm: spec.realm,
  };
}
