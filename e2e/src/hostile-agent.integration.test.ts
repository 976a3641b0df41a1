import { randomUUID } from 'node:crypto';
import { type ClientDuplexStream, credentials } from '@grpc/grpc-js';
import {
  type AgentFrame,
  type AgentMessage,
  type ControlFrame,
  FleetServiceClient,
  InvokeKind,
  LogStream,
  Outcome,
  type ResponseEnd,
} from '@lambda-fleet/proto';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { AgentInvocation } from '../../node-agent/src/invocations/invocation.js';
import { type Replica, Replicas } from '../test-support/replicas.js';
import { ScriptedAgent } from '../test-support/scripted-agent.js';

/** A machine whose certificate was stolen with it: it says what it likes, as the node that it is. */
class HostileAgent {
  readonly acknowledged: string[] = [];
  ended = false;
  readonly #client: FleetServiceClient;
  readonly #stream: ClientDuplexStream<AgentFrame, ControlFrame>;
  readonly welcomed: Promise<void>;

  constructor(port: number, tls: { ca: Buffer; cert: Buffer; key: Buffer }) {
    this.#client = new FleetServiceClient(`localhost:${port}`, credentials.createSsl(tls.ca, tls.key, tls.cert));
    this.#stream = this.#client.connect();
    this.welcomed = new Promise((resolve) => {
      this.#stream.on('data', (frame: ControlFrame) => {
        for (const { message } of frame.messages) {
          if (message?.$case === 'welcome') resolve();
          if (message?.$case === 'resultAck')
            this.acknowledged.push(...message.value.results.map(({ invocationId }) => invocationId));
        }
      });
    });
    const over = () => {
      this.ended = true;
    };
    this.#stream.on('error', over).on('end', over);
    this.say(helloOf(randomUUID()));
  }

  say(...messages: NonNullable<AgentMessage['message']>[]): void {
    this.#stream.write({ messages: messages.map((message) => ({ message })) });
  }

  close(): void {
    this.#stream.cancel();
    this.#client.close();
  }
}

describe('a stolen agent', () => {
  let replicas: Replicas;
  let replica: Replica;
  let honest: ScriptedAgent;
  const closers: (() => void)[] = [];

  beforeAll(async () => {
    replicas = await Replicas.open();
    replica = await replicas.startHere();
    honest = new ScriptedAgent({
      ...{ id: 'node-1', addresses: [`localhost:${replica.grpcPort}`] },
      tls: await replicas.agentCredentials('node-1'),
    });
    await honest.linkedTo(1);
    await replicas.deploy(replica, 'echo');
  });
  afterEach(() => {
    for (const close of closers.splice(0)) close();
  });
  afterAll(async () => {
    await honest?.close();
    await replicas?.close();
  });

  const stolen = async (id: string): Promise<HostileAgent> => {
    const agent = new HostileAgent(replica.grpcPort, await replicas.agentCredentials(id));
    closers.push(() => agent.close());
    await agent.welcomed;
    return agent;
  };
  /** An invocation that the honest node holds, with its caller's answer. */
  const holdOne = async () => {
    const answer = replicas.api(replica, 'POST', '/api/functions/echo/invocations', { hold: true });
    await expect.poll(() => honest.runner.held.size).toBe(1);
    const invocation = [...honest.runner.held.values()][0]?.invocation as AgentInvocation;
    return { answer, invocation };
  };
  const endOf = ({ invoke, spec }: AgentInvocation, more: Partial<ResponseEnd> = {}): ResponseEnd => ({
    ...{ invocationId: invoke.invocationId, epoch: invoke.epoch, versionId: spec.versionId, trigger: 'api' },
    ...{ projectId: spec.projectId, functionId: spec.functionId, functionName: 'forged', versionNumber: 1 },
    ...{ startedAtUnixMs: Date.now(), outcome: Outcome.SUCCESS, http: undefined, error: undefined, receipt: undefined },
    ...{ bodyBytes: 6, bodyStreamed: false, body: Buffer.from('forged'), kind: InvokeKind.EVENT, memoryMb: 128 },
    ...{ replayed: true, grant: invoke.grant },
    ...more,
  });
  const lines = async (): Promise<string> => {
    const answer = await replicas.api(replica, 'GET', '/api/functions/echo/logs?limit=1000');
    return answer.text;
  };

  it('can neither answer nor write for what another node was given, not even with its grant', async () => {
    const { answer, invocation } = await holdOne();
    const { invoke, spec } = invocation;
    const thief = await stolen('node-2');
    const about = { versionId: spec.versionId, functionId: spec.functionId, projectId: spec.projectId };
    const line = {
      ...{ ...about, invocationId: invoke.invocationId, epoch: 1, grant: invoke.grant, sequence: 99 },
      ...{ unixMs: Date.now(), stream: LogStream.STDOUT, level: 'INFO', text: 'forged line' },
    };
    thief.say(
      { $case: 'refused', value: { invocationId: invoke.invocationId, epoch: 1, reason: 1, detail: 'forged' } },
      { $case: 'responseEnd', value: endOf(invocation) },
      { $case: 'responseEnd', value: endOf(invocation, { trigger: 'async' }) },
      { $case: 'logBatch', value: { sequence: 1, lines: [line] } },
    );
    // All of it is taken, so that nothing comes again, and none of it is believed.
    await expect.poll(() => thief.acknowledged).toContain(invoke.invocationId);
    expect(await replicas.executions()).toEqual([]);
    honest.runner.finishAll();
    expect((await answer).text).toBe('{"hold":true}');
    await expect.poll(replicas.executions.bind(replicas)).toMatchObject([{ outcome: 'success', nodeId: 'node-1' }]);
    expect(await lines()).not.toContain('forged');
    expect(await lines()).toContain('node-1 has');
  });

  it('can invent no execution and no line of functions that it was not told of', async () => {
    const before = await replicas.executions();
    const thief = await stolen('node-2');
    const { invocation, answer } = await holdOne();
    honest.runner.finishAll();
    await answer;
    const forged = Array.from({ length: 500 }, () =>
      endOf(invocation, { invocationId: randomUUID(), grant: Buffer.alloc(16) }),
    );
    thief.say(...forged.map((value) => ({ $case: 'responseEnd', value }) as const));
    await expect.poll(() => thief.acknowledged.length).toBe(forged.length);
    await expect.poll(async () => (await replicas.executions()).length).toBe(before.length + 1);
    expect(thief.ended).toBe(false);
  });

  it('loses its session when it says what no agent says, and nobody else does', async () => {
    const welcomes = honest.welcomes;
    const thief = await stolen('node-2');
    thief.say(helloOf('again'));
    await expect.poll(() => thief.ended).toBe(true);
    expect([honest.linked, honest.welcomes]).toEqual([1, welcomes]);
  });

  it('cannot take another node’s place: a second session is of the node that its certificate names', async () => {
    const welcomes = honest.welcomes;
    const [first, second] = [await stolen('node-2'), await stolen('node-2')];
    await expect.poll(() => first.ended).toBe(true);
    expect(second.ended).toBe(false);
    expect([honest.linked, honest.welcomes]).toEqual([1, welcomes]);
  });
});

function helloOf(bootId: string): NonNullable<AgentMessage['message']> {
  const value = {
    ...{
      protocolMin: 1,
      protocolMax: 2,
      agentVersion: 'hostile',
      bootId,
      labels: {},
      runtimes: [],
      isolation: ['none'],
    },
    ...{ architecture: 'x64', networks: [], selfTest: [], builds: false, running: [], keptResults: [] },
    capacity: undefined,
  };
  return { $case: 'hello', value };
}
