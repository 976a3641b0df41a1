import { randomUUID } from 'node:crypto';
import type { ControlMessage, InvocationRef } from '@lambda-fleet/proto';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startTestPostgres, type TestPostgres } from '../db/test-postgres.js';
import { NodeSession } from './node-session.js';
import { reconcileAttempts } from './reconcile-attempts.js';

const log = pino({ level: 'silent' });

describe('work that an agent has when it connects', () => {
  let postgres: TestPostgres;
  beforeAll(async () => {
    postgres = await startTestPostgres();
  });
  afterAll(() => postgres.close());

  const queued = async (epoch: number, status: 'queued' | 'running', nodeId: string | null): Promise<string> => {
    const id = randomUUID();
    await postgres.database.run(
      'queue',
      (sql) => sql`
        insert into async_invocations (id, project_id, lane_id, kind, function_id, function_name, trigger, payload, context,
          status, epoch, expires_at, node_id)
        values (${id}, 'default', ${id}, 'function', ${id}, 'f', 'async', '', '{}', ${status}, ${epoch}, now(), ${nodeId})`,
    );
    return id;
  };
  const recorded = async (epoch: number, outcome: string, queue: boolean): Promise<string> => {
    const id = randomUUID();
    await postgres.database.run(
      'record',
      (sql) => sql`
        insert into executions (id, project_id, function_id, function_name, version_id, version_number, trigger, epoch, outcome,
          receipt, started_at, finished_at, accepted_at)
        values (${id}, 'default', ${id}, 'f', ${id}, 1, 'api', ${epoch}, ${outcome}, '{}', now(), now(),
          ${queue ? sql`now()` : null})`,
    );
    return id;
  };
  /** What `node-1` is told when its Hello lists these. */
  const greet = async (running: InvocationRef[], keptResults: InvocationRef[]) => {
    const sent: ControlMessage[] = [];
    const session = new NodeSession(
      'node-1',
      {
        ...{ protocolMin: 1, protocolMax: 2, agentVersion: 'test', bootId: 'b', labels: {}, runtimes: [] },
        ...{ isolation: ['runc'], architecture: 'x64', networks: [], selfTest: [], builds: false },
        ...{ running, keptResults, capacity: undefined },
      },
      { write: (messages) => sent.push(...messages) > 0, end: () => {} },
      {
        onCapacity: () => {},
        onUnclaimedResult: () => {},
        onLogs: () => {},
        onDrainProgress: () => {},
        onLeaving: () => {},
        onSelfTest: () => {},
        onClosed: () => {},
      },
      log,
    );
    await reconcileAttempts(postgres.database, session, log);
    await new Promise((resolve) => setImmediate(resolve));
    const cancelled = sent.flatMap(({ message }) => (message?.$case === 'cancel' ? [message.value] : []));
    const acknowledged = sent.flatMap(({ message }) => (message?.$case === 'resultAck' ? message.value.results : []));
    return { cancelled, acknowledged };
  };
  const ref = (invocationId: string, epoch = 1): InvocationRef => ({ invocationId, epoch });

  it('goes on when it is the current attempt, when its end is not known for certain, and when nothing is known of it', async () => {
    const refs = [
      ref(await queued(3, 'running', 'node-1'), 3),
      ref(await recorded(1, 'outcome_unknown', false)),
      ref(randomUUID()),
    ];
    expect(await greet(refs, [])).toEqual({ cancelled: [], acknowledged: [] });
    expect(await greet([], refs)).toEqual({ cancelled: [], acknowledged: [] });
  });

  it('is ended, or its result dropped, when another attempt has begun or the invocation has ended', async () => {
    const refs = [
      ref(await queued(2, 'running', 'node-1'), 1),
      ref(await queued(1, 'queued', null), 1),
      ref(await queued(1, 'running', 'node-2'), 1),
      ref(await recorded(1, 'success', false)),
      ref(await recorded(2, 'success', true), 1),
      // All its attempts were lost: it is a dead letter.
      ref(await recorded(1, 'outcome_unknown', true)),
    ];
    const sorted = (list: readonly InvocationRef[]) => list.map(({ invocationId }) => invocationId).sort();
    expect(sorted((await greet(refs, [])).cancelled)).toEqual(sorted(refs));
    expect(sorted((await greet([], refs)).acknowledged)).toEqual(sorted(refs));
  });

  it('reads no lie of an agent as an id or a number of its own', async () => {
    const over = ref(await recorded(1, 'success', false));
    const lies = [ref("'; drop table executions; --"), ref('', 0), ref(randomUUID(), 2 ** 32 - 1)];
    expect(await greet([...lies, over], lies)).toEqual({ cancelled: [over], acknowledged: [] });
  });

  it('goes on while the database is away', async () => {
    const over = ref(await recorded(1, 'success', false));
    await postgres.restart(async () => {
      expect(await greet([over], [over])).toEqual({ cancelled: [], acknowledged: [] });
    });
  });
});
