import { v7 as uuidv7 } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { storedBody } from '../db/stored-body.js';
import { startTestPostgres, type TestPostgres } from '../db/test-postgres.js';
import { bodiesOf as bodiesIn } from '../executions/execution-bodies.js';
import { type ExecutionRecord, executionRows } from '../executions/execution-rows.js';
import { recordExecutions } from '../executions/record-executions.js';
import { insertExecutions } from './insert-executions.js';

function record(changes: Partial<ExecutionRecord> = {}): ExecutionRecord {
  return {
    id: uuidv7(),
    projectId: 'default',
    functionId: uuidv7(),
    functionName: 'greet',
    versionId: uuidv7(),
    versionNumber: 1,
    trigger: 'api',
    epoch: 1,
    outcome: 'success',
    statusCode: undefined,
    error: undefined,
    receipt: { start: 'warm', runMs: 1.5 },
    nodeId: 'node-1',
    input: '{"a":"ünïcode \u{1F600}"}',
    output: '1',
    keepPayloads: true,
    startedAtMs: Date.now(),
    finishedAtMs: Date.now(),
    ...changes,
  };
}

describe('insertExecutions', () => {
  let postgres: TestPostgres;
  beforeAll(async () => {
    postgres = await startTestPostgres();
  });
  afterAll(() => postgres.close());

  const stored = async (id: string) => {
    const [row] = await postgres.database.run(
      'read back',
      (sql) => sql<Record<string, unknown>[]>`SELECT * FROM executions WHERE id = ${id}`,
    );
    return row;
  };

  it('stores a batch as it is', async () => {
    const good = record();
    const failed = record({
      outcome: 'function_error',
      statusCode: 502,
      error: { errorType: 'TypeError', errorMessage: 'it\'s "quoted" \\ and {braced}', trace: ['a', 'b'] },
      input: undefined,
      output: undefined,
      nodeId: undefined,
    });
    await insertExecutions(postgres.database, [good, failed]);
    expect(await stored(good.id)).toMatchObject({ outcome: 'success', input: good.input, receipt: good.receipt });
    expect(await stored(failed.id)).toMatchObject({ statusCode: 502, error: failed.error, input: null, nodeId: null });
  });

  it('keeps the first terminal record when one comes again', async () => {
    const first = record();
    await insertExecutions(postgres.database, [first]);
    await insertExecutions(postgres.database, [{ ...first, outcome: 'timeout', output: 'other' }]);
    expect(await stored(first.id)).toMatchObject({ outcome: 'success', output: '1' });
  });

  it('learns how an invocation of unknown outcome really ended, and keeps its input', async () => {
    const unknown = record({ outcome: 'outcome_unknown', output: undefined });
    await insertExecutions(postgres.database, [unknown]);
    await insertExecutions(postgres.database, [{ ...unknown, outcome: 'success', output: '7', input: undefined }]);
    expect(await stored(unknown.id)).toMatchObject({ outcome: 'success', output: '7', input: unknown.input });
  });

  it('does not take the word of another attempt for it', async () => {
    const unknown = record({ outcome: 'outcome_unknown', epoch: 2 });
    await insertExecutions(postgres.database, [unknown]);
    await insertExecutions(postgres.database, [{ ...unknown, outcome: 'success', epoch: 1 }]);
    expect(await stored(unknown.id)).toMatchObject({ outcome: 'outcome_unknown' });
  });

  const MB = 1024 * 1024;
  /** A record as the invoke path makes it. */
  const withBodies = (input: Buffer, output: Buffer, changes: Partial<ExecutionRecord> = {}): ExecutionRecord => {
    const stored = { input: storedBody(input), output: storedBody(output) };
    return record({
      input: stored.input.text,
      inputBytes: stored.input.bytes,
      output: stored.output.text,
      outputBytes: stored.output.bytes,
      ...changes,
    });
  };
  const bodiesOf = (id: string, projectId = 'default') => bodiesIn(postgres.database, projectId, id);
  const keptApart = async (id: string): Promise<number> => {
    const rows = await postgres.database.run(
      'kept apart',
      (sql) => sql`select 1 from execution_bodies where execution_id = ${id}`,
    );
    return rows.length;
  };
  const everyByte = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));
  const bodies: readonly (readonly [string, Buffer, number])[] = [
    ['0 bytes', Buffer.alloc(0), 0],
    ['text', Buffer.from('{"a":"ünïcode \u{1F600} \\ud800 \'\\\\x00"}'), 0],
    ['64 KiB of text', Buffer.alloc(64 * 1024, 'é'), 0],
    ['a longer text', Buffer.from('\u{1F600}é'.repeat(20_000)), 1],
    ['a NUL in a short text', Buffer.from('{"a":"\0"}'), 1],
    ['a NUL in a long text', Buffer.from('\0é'.repeat(50_000)), 1],
    ['a replacement character', Buffer.from('"\uFFFD"'), 1],
    ['every byte', everyByte, 1],
    ['surrogates that are no UTF-8', Buffer.from([0x22, 0xed, 0xa0, 0x80, 0x22]), 1],
    ['6 MB of text', Buffer.alloc(6 * MB, '{"key":"value"},'), 1],
    ['6 MB of anything', Buffer.alloc(6 * MB, everyByte), 1],
  ];

  it.each(bodies)('gives back %s byte for byte', async (_what, body, apart) => {
    const first = withBodies(body, Buffer.from('1'));
    const second = withBodies(Buffer.from('{}'), body);
    await insertExecutions(postgres.database, [first, second]);
    const [event, result] = [await bodiesOf(first.id), await bodiesOf(second.id)];
    expect([event.exact, result.exact]).toEqual([true, true]);
    expect(event.input?.equals(body)).toBe(true);
    expect(event.output?.toString()).toBe('1');
    expect(result.output?.equals(body)).toBe(true);
    expect(result.input?.toString()).toBe('{}');
    expect([await keptApart(first.id), await keptApart(second.id)]).toEqual([apart, apart]);
  });

  it('mixes up none of a batch', async () => {
    const records = bodies.slice(0, 9).map(([, body], at) => withBodies(body, bodies[8 - at]?.[1] ?? body));
    await insertExecutions(postgres.database, records);
    for (const [at, { id }] of records.entries()) {
      const found = await bodiesOf(id);
      expect(found.input?.equals(bodies[at]?.[1] as Buffer)).toBe(true);
      expect(found.output?.equals(bodies[8 - at]?.[1] as Buffer)).toBe(true);
    }
  });

  it('has the text, and says that it may not be exact, when the bytes are not kept any more', async () => {
    const some = withBodies(Buffer.from('{"a":"\0"}'), everyByte);
    const plain = withBodies(Buffer.from('{}'), Buffer.alloc(0));
    await insertExecutions(postgres.database, [some, plain]);
    await postgres.database.run(
      'age',
      (sql) => sql`update execution_bodies set kept_at = now() - interval '25 hours' where execution_id = ${some.id}`,
    );
    const aged = await bodiesOf(some.id);
    expect(aged).toEqual({ input: Buffer.from('{"a":"\uFFFD"}'), output: undefined, exact: false });
    expect(await bodiesOf(plain.id)).toEqual({ input: Buffer.from('{}'), output: Buffer.alloc(0), exact: true });
  });

  it('shows no other project the bodies, nor that there is an execution', async () => {
    const mine = withBodies(everyByte, everyByte);
    await insertExecutions(postgres.database, [mine]);
    for (const [id, projectId] of [[mine.id, 'other'], [uuidv7()], ["'; --"]] as const) {
      await expect(bodiesOf(id, projectId)).rejects.toMatchObject({ code: 'execution_not_found' });
    }
  });

  it('adds the result of an invocation of unknown outcome to the event that was kept', async () => {
    const unknown = withBodies(everyByte, Buffer.alloc(0), { outcome: 'outcome_unknown', output: undefined });
    await insertExecutions(postgres.database, [unknown]);
    const late = withBodies(Buffer.alloc(0), Buffer.alloc(MB, 'y'), { id: unknown.id, keepPayloads: undefined });
    await insertExecutions(postgres.database, [{ ...late, functionId: await aFunction(true) }]);
    const found = await bodiesOf(unknown.id);
    expect(found.input?.equals(everyByte)).toBe(true);
    expect(found.output?.equals(Buffer.alloc(MB, 'y'))).toBe(true);
  });

  /** A function's row, as far as it matters here. */
  const aFunction = async (keepPayloads: boolean): Promise<string> => {
    const id = uuidv7();
    await postgres.database.run(
      'function',
      (sql) => sql`
        insert into functions (id, project_id, name, route, http_auth, keep_payloads, latest_version_id)
        values (${id}, 'default', ${id}, ${id}, 'key', ${keepPayloads}, ${id})`,
    );
    return id;
  };

  it('keeps nothing but errors of a function that does not want it, whatever the record says', async () => {
    const functionId = await aFunction(false);
    const error = { errorType: 'Error', errorMessage: 'no' };
    for (const keepPayloads of [true, false, undefined]) {
      for (const body of [Buffer.from('secret'), everyByte]) {
        const some = withBodies(body, body, { functionId, keepPayloads, error, outcome: 'function_error' });
        await insertExecutions(postgres.database, [some]);
        expect(await bodiesOf(some.id)).toEqual({ input: undefined, output: undefined, exact: true });
        expect(await stored(some.id)).toMatchObject({ input: null, output: null, error });
        expect(await keptApart(some.id)).toBe(0);
      }
    }
  });

  it('keeps what an agent reports late only when the function is there to say so', async () => {
    const gone = withBodies(Buffer.from('1'), everyByte, { keepPayloads: undefined });
    const there = withBodies(Buffer.from('1'), everyByte, {
      keepPayloads: undefined,
      functionId: await aFunction(true),
    });
    await insertExecutions(postgres.database, [gone, there]);
    expect((await bodiesOf(gone.id)).output).toBeUndefined();
    expect((await bodiesOf(there.id)).output?.equals(everyByte)).toBe(true);
  });

  it('counts attempts from one, and knows when an async invocation was accepted', async () => {
    const [sync, queued] = [record(), record({ attempts: 3, acceptedAtMs: 1_700_000_000_123 })];
    const never = record({ attempts: 0 });
    await insertExecutions(postgres.database, [sync, queued, never]);
    expect(await stored(never.id)).toMatchObject({ attempts: 0 });
    expect(await stored(sync.id)).toMatchObject({ attempts: 1, acceptedAt: null });
    expect(await stored(queued.id)).toMatchObject({ attempts: 3, acceptedAt: new Date(1_700_000_000_123) });
  });

  it('stores bodies uncompressed', async () => {
    const rows = await postgres.database.run(
      'storage',
      (sql) => sql`
        select attname::text as name, attstorage::text as storage from pg_attribute
        where attrelid = 'execution_bodies'::regclass and attname in ('input', 'output') order by attname`,
    );
    expect([...rows]).toEqual([
      { name: 'input', storage: 'e' },
      { name: 'output', storage: 'e' },
    ]);
  });

  it('is a part of a larger statement too, which decides what is recorded', async () => {
    const [wanted, other] = [withBodies(everyByte, Buffer.from('1')), withBodies(everyByte, Buffer.from('2'))];
    const recorded = await postgres.database.run(
      'part',
      (sql) => sql<{ id: string }[]>`
        with rows as (${executionRows(sql, [wanted, other])}),
          work as (select * from rows where id = ${wanted.id}),
          ${recordExecutions(sql, 'work', { withBodies: true })}
        select id from recorded`,
    );
    expect([...recorded]).toEqual([{ id: wanted.id }]);
    expect((await bodiesOf(wanted.id)).input?.equals(everyByte)).toBe(true);
    expect(await stored(other.id)).toBeUndefined();
    expect(await keptApart(other.id)).toBe(0);
  });
});
