import { pino } from 'pino';
import { v7 as uuidv7 } from 'uuid';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { startTestPostgres, type TestPostgres } from '../db/test-postgres.js';
import { insertLogLines, STORED_LINE_OVERHEAD_BYTES } from './insert-log-lines.js';
import { LogSweep } from './log-sweep.js';

const log = pino({ level: 'silent' });
const FOREVER = { days: 3_650, bytesMax: Number.MAX_SAFE_INTEGER };

describe('LogSweep', () => {
  let postgres: TestPostgres;
  beforeAll(async () => {
    postgres = await startTestPostgres();
  });
  afterAll(() => postgres.close());
  beforeEach(async () => {
    await postgres.database.run('empty', (sql) => sql`truncate log_lines, log_minutes`);
  });

  const functionId = uuidv7();
  let sequence = 0;
  /** Stores lines as if that had been so many minutes ago. */
  const store = async (minutesAgo: number, texts: readonly string[]): Promise<void> => {
    const executionId = uuidv7();
    const lines = texts.map((text) => {
      sequence += 1;
      return {
        ...{ projectId: 'default', functionId, executionId, versionId: functionId, epoch: 1, sequence, at: new Date() },
        ...{ stream: 'stdout' as const, level: '', text },
      };
    });
    await insertLogLines(postgres.database, lines);
    await postgres.database.run(
      'age',
      (sql) => sql`
        update log_minutes set minute = date_trunc('minute', now()) - ${minutesAgo} * interval '1 minute'
        where last_id = (select max(id) from log_lines)`,
    );
  };
  const kept = async (): Promise<string[]> => {
    const rows = await postgres.database.run(
      'kept',
      (sql) => sql<{ text: string }[]>`select text from log_lines order by id`,
    );
    return rows.map(({ text }) => text);
  };
  const minutes = () =>
    postgres.database.run('minutes', (sql) => sql<{ bytes: string }[]>`select bytes from log_minutes order by minute`);
  const sweep = async (retention: { days: number; bytesMax: number }): Promise<number> => {
    const swept = new LogSweep(postgres.database, retention, log);
    try {
      return await swept.run();
    } finally {
      swept.close();
    }
  };

  it('removes lines that are too old, more than one statement’s, and forgets their minutes', async () => {
    const old = Array.from({ length: 4_500 }, (_, at) => `old ${at}`);
    await store(15 * 24 * 60, old);
    await store(13 * 24 * 60, ['recent']);
    await store(0, ['now']);
    expect(await sweep({ ...FOREVER, days: 14 })).toBe(4_500);
    expect(await kept()).toEqual(['recent', 'now']);
    expect(await minutes()).toHaveLength(2);
    expect(await sweep({ ...FOREVER, days: 14 })).toBe(0);
  });

  it('removes the oldest minutes when there is too much, and always keeps the newest', async () => {
    const text = 'x'.repeat(1_000 - STORED_LINE_OVERHEAD_BYTES);
    for (let minute = 5; minute >= 0; minute -= 1) await store(minute, [`${minute}`.padEnd(text.length, 'x')]);
    expect(await sweep({ ...FOREVER, bytesMax: 3_000 })).toBe(3);
    expect((await kept()).map((line) => line[0])).toEqual(['2', '1', '0']);
    expect(await sweep({ ...FOREVER, bytesMax: 1 })).toBe(2);
    expect((await kept()).map((line) => line[0])).toEqual(['0']);
    expect(await sweep({ days: 1, bytesMax: 1 })).toBe(0);
  });

  it('counts what is stored, once, in bytes and not in characters', async () => {
    await store(0, ['ä', 'bb']);
    const bytes = async () => (await minutes()).map((minute) => Number(minute.bytes));
    expect(await bytes()).toEqual([4 + 2 * STORED_LINE_OVERHEAD_BYTES]);
    const [line] = await postgres.database.run(
      'line',
      (sql) => sql`select project_id, function_id, execution_id, version_id, epoch, sequence from log_lines limit 1`,
    );
    await insertLogLines(postgres.database, [
      {
        ...(line as {
          projectId: string;
          functionId: string;
          executionId: string;
          versionId: string;
          epoch: number;
          sequence: number;
        }),
        ...{ at: new Date(), stream: 'stdout', level: '', text: 'again' },
      },
    ]);
    expect(await bytes()).toEqual([4 + 2 * STORED_LINE_OVERHEAD_BYTES]);
  });

  it('two sweeps at once remove every line once', async () => {
    await store(
      60,
      Array.from({ length: 9_000 }, (_, at) => String(at)),
    );
    await store(0, ['now']);
    const removed = await Promise.all([1, 2].map(() => sweep({ ...FOREVER, bytesMax: 1_000 })));
    expect(removed.reduce((sum, count) => sum + count)).toBe(9_000);
    expect(await kept()).toEqual(['now']);
  });
});
