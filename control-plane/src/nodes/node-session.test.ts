import { randomUUID } from 'node:crypto';
import { RESPONSE_BYTES_MAX } from '@lambda-fleet/common/limits';
import {
  type AgentMessage,
  type ControlMessage,
  InvokeKind,
  Outcome,
  RefusalReason,
  type ResponseEnd,
  type VersionSpec,
} from '@lambda-fleet/proto';
import { pino } from 'pino';
import { describe, expect, it } from 'vitest';
import type { DispatchAnswer } from './dispatch.js';
import { NodeSession } from './node-session.js';

const SPEC: VersionSpec = {
  versionId: randomUUID(),
  projectId: 'default',
  functionId: randomUUID(),
  functionName: 'greet',
  versionNumber: 1,
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
};

function session(spec = SPEC) {
  const sent: ControlMessage[] = [];
  const ended: string[] = [];
  const unclaimed: ResponseEnd[] = [];
  let closed = 0;
  const created = new NodeSession(
    'node-1',
    {
      protocolMin: 1,
      protocolMax: 1,
      agentVersion: 'test',
      bootId: 'b',
      labels: {},
      runtimes: [],
      isolation: ['runc'],
      architecture: 'x64',
      networks: ['none'],
      selfTest: [],
      builds: false,
      running: [],
      keptResults: [],
      capacity: undefined,
    },
    {
      write: (messages) => {
        sent.push(...messages);
        return true;
      },
      end: (reason) => ended.push(reason),
    },
    {
      onCapacity: () => {},
      onUnclaimedResult: (_session, end) => unclaimed.push(end),
      onDrainProgress: () => {},
      onLeaving: () => {},
      onSelfTest: () => {},
      onLogs: () => {},
      onClosed: () => {
        closed += 1;
      },
    },
    pino({ level: 'silent' }),
  );
  const id = randomUUID();
  const dispatch = (deadlineMs = 60_000): Promise<DispatchAnswer> =>
    created.dispatch(
      spec,
      {
        id,
        kind: InvokeKind.EVENT,
        trigger: 'api',
        payload: Buffer.from('{}'),
        traceId: '',
        clientContext: '',
        singleUse: false,
      },
      'runc',
      1,
      deadlineMs,
    );
  return { created, id, dispatch, sent, ended, unclaimed, closed: () => closed };
}

function end(invocationId: string, changes: Partial<ResponseEnd> = {}): AgentMessage {
  const value: ResponseEnd = {
    invocationId,
    epoch: 1,
    versionId: SPEC.versionId,
    projectId: 'default',
    functionId: SPEC.functionId,
    functionName: 'greet',
    versionNumber: 1,
    memoryMb: 128,
    trigger: 'api',
    startedAtUnixMs: 0,
    outcome: Outcome.SUCCESS,
    http: undefined,
    bodyBytes: 2,
    bodyStreamed: false,
    body: Buffer.from('{}'),
    error: undefined,
    receipt: undefined,
    replayed: false,
    kind: InvokeKind.EVENT,
    ...changes,
  };
  return { message: { $case: 'responseEnd', value } };
}

describe('NodeSession', () => {
  it('answers a dispatch once, however often the agent ends it', async () => {
    const { created, id, dispatch, unclaimed } = session();
    const answer = dispatch();
    expect(created.inFlightOf(SPEC.versionId)).toBe(1);
    created.receive(end(id));
    created.receive(end(id, { outcome: Outcome.TIMEOUT }));
    expect(await answer).toMatchObject({ kind: 'ended', end: { outcome: Outcome.SUCCESS } });
    expect(unclaimed).toHaveLength(1);
    expect(created.inFlightOf(SPEC.versionId)).toBe(0);
  });

  it.each([
    [1_000, {}, 1],
    [1_000, { outcome: Outcome.TIMEOUT }, 0],
    [0, {}, 0],
  ])(
    'with keep-alive %i ms a result of %j leaves %i sandbox before the node reports it',
    (keepAliveMs, changes, count) => {
      const { created, id, dispatch } = session({ ...SPEC, keepAliveMs });
      void dispatch();
      created.receive(end(id, changes));
      expect(created.sandboxesOf(SPEC.versionId)).toBe(count);
      created.receive({ message: { $case: 'capacity', value: { ...created.capacity, versions: [] } } });
      expect(created.sandboxesOf(SPEC.versionId)).toBe(0);
    },
  );

  it('takes neither a result nor a refusal of another attempt for this one', async () => {
    const { created, id, dispatch, unclaimed } = session();
    const answer = dispatch();
    created.receive(end(id, { epoch: 2 }));
    const refused = { invocationId: id, epoch: 2, reason: RefusalReason.NO_CAPACITY, detail: '' };
    created.receive({ message: { $case: 'refused', value: refused } });
    expect(unclaimed.map(({ epoch }) => epoch)).toEqual([2]);
    created.receive(end(id));
    expect(await answer).toMatchObject({ kind: 'ended', end: { epoch: 1 } });
  });

  it('waits for the last chunk of a streamed body, whichever comes last', async () => {
    for (const endFirst of [true, false]) {
      const { created, id, dispatch } = session();
      const answer = dispatch();
      const last = end(id, { bodyStreamed: true, bodyBytes: 4, body: Buffer.alloc(0) });
      if (endFirst) created.receive(last);
      created.receiveChunk({ invocationId: id, epoch: 1, data: Buffer.from('ab') });
      created.receiveChunk({ invocationId: id, epoch: 1, data: Buffer.from('cd') });
      if (!endFirst) created.receive(last);
      const { body } = (await answer) as Extract<DispatchAnswer, { kind: 'ended' }>;
      expect(body.toString()).toBe('abcd');
    }
  });

  it.each<[string, (created: NodeSession, id: string) => void]>([
    [
      'sends more than any response may have',
      (created, id) => {
        const data = Buffer.alloc(RESPONSE_BYTES_MAX / 2 + 1);
        for (let i = 0; i < 2; i += 1) created.receiveChunk({ invocationId: id, epoch: 1, data });
      },
    ],
    ['contradicts the size of a body', (created, id) => created.receive(end(id, { bodyBytes: 3 }))],
    [
      'announces a body that is too long',
      (created, id) => created.receive(end(id, { bodyBytes: 1e12, bodyStreamed: true })),
    ],
    ['says Hello twice', (created) => created.receive({ message: { $case: 'hello', value: created.hello } })],
    ['sends a message without content', (created) => created.receive({ message: undefined })],
  ])('ends the session of an agent that %s, and answers what is open as lost', async (_what, misbehave) => {
    const { created, id, dispatch, ended, closed } = session();
    const answer = dispatch();
    misbehave(created, id);
    expect(await answer).toMatchObject({ kind: 'lost' });
    expect([created.closed, ended.length, closed()]).toEqual([true, 1, 1]);
    created.close('again');
    created.receive(end(id));
    expect(closed()).toBe(1);
  });

  it('sends nothing when it is closed, and says that nothing was sent', async () => {
    const { created, dispatch, sent } = session();
    created.close('test');
    expect(await dispatch()).toEqual({ kind: 'unsent' });
    expect(sent).toEqual([]);
  });

  it('gives up and cancels what its node does not answer in time', async () => {
    const { created, id, dispatch, sent } = session();
    const answer = dispatch(10);
    created.sweep(performance.now() + 5);
    created.sweep(performance.now() + 1_000);
    expect(await answer).toMatchObject({ kind: 'lost' });
    await new Promise((resolve) => setImmediate(resolve));
    expect(sent.map(({ message }) => message?.$case)).toEqual(['invoke', 'cancel']);
    expect(sent[1]?.message?.value).toMatchObject({ invocationId: id, epoch: 1 });
  });

  it('lets the agent fetch the artifacts of versions that it was sent, until they are forgotten', async () => {
    const { created, id, dispatch } = session();
    expect(created.projectOfArtifact(SPEC.artifactSha256)).toBeUndefined();
    const answer = dispatch();
    expect(created.projectOfArtifact(SPEC.artifactSha256)).toBe('default');
    created.receive(end(id));
    await answer;
    created.forget([SPEC.versionId]);
    expect(created.projectOfArtifact(SPEC.artifactSha256)).toBeUndefined();
  });
});
