import { v7 as uuidv7 } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startTestPostgres, type TestPostgres } from '../db/test-postgres.js';
import type { ExecutionRecord } from './execution-record.js';
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
});
