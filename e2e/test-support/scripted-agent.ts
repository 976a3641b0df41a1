import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { credentials } from '@grpc/grpc-js';
import {
  type Capacity,
  FaultOwner,
  type InvocationRef,
  InvokeKind,
  LogStream,
  Outcome,
  type ResponseEnd,
  type WarmFloor,
} from '@lambda-fleet/proto';
import type { Logger } from 'pino';
import { pino } from 'pino';
import type { AgentInvocation, InvocationSink } from '../../node-agent/src/invocations/invocation.js';
import { AgentLinks, type AgentLinksOptions, type LinkRunner } from '../../node-agent/src/link/agent-links.js';
import type { Credentials } from './replicas.js';

/** What happened on a node, in order. */
export interface NodeEvent {
  readonly node: string;
  readonly what: 'began' | 'ended' | 'cancelled';
  readonly invocationId: string;
  readonly epoch: number;
}

interface Running {
  readonly invocation: AgentInvocation;
  readonly sink: InvocationSink;
}

const CAPACITY: Capacity = {
  memoryBytesTotal: 8e9,
  memoryBytesFree: 8e9,
  slotsTotal: 64,
  slotsFree: 64,
  versions: [],
  blanks: [],
  sandboxesLeaked: 0,
};

/**
 * A node whose functions are played by the test: an event `{"hold": true}` is held until it is finished, any other comes back
 * at once. Each prints one line.
 */
class ScriptedRunner implements LinkRunner {
  readonly held = new Map<string, Running>();
  readonly floors: WarmFloor[] = [];

  constructor(
    private readonly node: string,
    private readonly events: NodeEvent[],
  ) {}

  invoke(invocation: AgentInvocation, sink: InvocationSink): void {
    const { invoke, spec, payload } = invocation;
    const { invocationId, epoch } = invoke;
    const running = { invocation, sink };
    if (invoke.kind === InvokeKind.CHECK) {
      sink.ended(endOf(running, Outcome.SUCCESS));
      return;
    }
    this.#note('began', invoke);
    const { functionId, projectId, versionId } = spec;
    const about = { invocationId, functionId, projectId, versionId, epoch, stream: LogStream.STDOUT, level: 'INFO' };
    const { grant } = invoke;
    sink.log({ ...about, grant, sequence: 0, unixMs: Date.now(), text: `${this.node} has ${payload.toString()}` });
    if (payload.toString().includes('"hold"')) this.held.set(keyOf(invoke), running);
    else this.#end(running, Outcome.SUCCESS, payload);
  }

  /** Finishes one that is held, successfully. */
  finish(ref: InvocationRef): void {
    const running = this.held.get(keyOf(ref));
    if (running === undefined) throw new Error(`${keyOf(ref)} is not held`);
    this.#end(running, Outcome.SUCCESS, running.invocation.payload);
  }

  finishAll(): void {
    for (const { invocation } of [...this.held.values()]) this.finish(invocation.invoke);
  }

  cancel(ref: InvocationRef): void {
    const running = this.held.get(keyOf(ref));
    if (running === undefined) return;
    this.#note('cancelled', ref);
    this.#end(running, Outcome.UNKNOWN);
  }

  cancelAll(): void {
    for (const { invocation } of [...this.held.values()]) this.cancel(invocation.invoke);
  }

  forget(): void {}
  warm(floors: readonly WarmFloor[]): void {
    this.floors.push(...floors);
  }
  capacity(): Capacity {
    return CAPACITY;
  }
  running(): InvocationRef[] {
    return [...this.held.values()].map(({ invocation: { invoke } }) => invoke);
  }

  #end(running: Running, outcome: Outcome, body: Buffer = Buffer.alloc(0)): void {
    const { invoke } = running.invocation;
    this.held.delete(keyOf(invoke));
    this.#note('ended', invoke);
    running.sink.ended(endOf(running, outcome, body));
  }

  #note(what: NodeEvent['what'], { invocationId, epoch }: InvocationRef): void {
    this.events.push({ node: this.node, what, invocationId, epoch });
  }
}

export interface ScriptedAgentOptions {
  readonly id: string;
  readonly addresses: readonly string[];
  readonly tls: Credentials;
  readonly events?: NodeEvent[];
  readonly links?: Partial<AgentLinksOptions>;
  readonly log?: Logger;
}

/** The real links of an agent, with a node that is played. */
export class ScriptedAgent {
  readonly runner: ScriptedRunner;
  readonly links: AgentLinks;
  welcomes = 0;

  constructor({ id, addresses, tls, events = [], links = {}, log = pino({ level: 'silent' }) }: ScriptedAgentOptions) {
    this.runner = new ScriptedRunner(id, events);
    this.links = new AgentLinks({
      addresses,
      credentials: () => credentials.createSsl(tls.ca, tls.key, tls.cert),
      hello: {
        ...{ protocolMin: 1, protocolMax: 2, agentVersion: 'test', bootId: randomUUID(), labels: {} },
        ...{ runtimes: [{ name: 'nodejs', digest: '' }], isolation: ['none'], architecture: 'x64', networks: ['none'] },
        ...{ selfTest: [], builds: false },
      },
      runner: this.runner,
      onDrain: () => undefined,
      onWelcomed: () => {
        this.welcomes += 1;
      },
      log,
      ...links,
    });
    this.links.start();
  }

  get linked(): number {
    return [...this.links.ready()].length;
  }

  /** Resolves when it is linked to so many replicas. */
  async linkedTo(replicas: number): Promise<void> {
    const giveUpAt = Date.now() + 20_000;
    while (this.linked !== replicas) {
      if (Date.now() > giveUpAt) throw new Error(`linked to ${this.linked} replicas, not to ${replicas}`);
      await sleep(20);
    }
  }

  close(): Promise<void> {
    return this.links.close();
  }
}

function endOf({ invocation }: Running, outcome: Outcome, body: Buffer = Buffer.alloc(0)): ResponseEnd {
  const { invoke, spec } = invocation;
  const fault = outcome === Outcome.SUCCESS ? FaultOwner.UNSPECIFIED : FaultOwner.PLATFORM;
  return {
    ...{ invocationId: invoke.invocationId, epoch: invoke.epoch, trigger: invoke.trigger, kind: invoke.kind },
    ...{ versionId: spec.versionId, projectId: spec.projectId, functionId: spec.functionId },
    ...{ functionName: spec.functionName, versionNumber: spec.versionNumber, memoryMb: spec.memoryMb },
    ...{ startedAtUnixMs: Date.now(), outcome, http: undefined, bodyBytes: body.length, bodyStreamed: false, body },
    error: undefined,
    receipt: {
      ...{ start: 1, sandboxId: 'scripted', queueUs: 0, sandboxUs: 0, initUs: 0, runUs: 1, cpuUs: 1 },
      ...{ memoryPeakBytes: 1, fault, shared: false, isolation: 'none' },
    },
    ...{ replayed: false, grant: invoke.grant },
  };
}

const keyOf = ({ invocationId, epoch }: InvocationRef): string => `${invocationId}/${epoch}`;
