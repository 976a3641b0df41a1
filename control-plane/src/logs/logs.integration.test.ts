import { v7 as uuidv7 } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startTestControlPlane, type TestControlPlane } from '../http/test-control-plane.js';
import { insertLogLines } from './insert-log-lines.js';
import type { StoredLogLine } from './log-line.js';

describe('executions and logs', () => {
  let plane: TestControlPlane;
  let functionId = '';
  beforeAll(async () => {
    plane = await startTestControlPlane();
    const created = await plane.call('PUT', '/api/functions/talk', { code: { source: 'x' } });
    functionId = String(created.body.id);
  });
  afterAll(() => plane.close());

  let sequence = 0;
  const write = async (texts: readonly string[], executionId = uuidv7(), publish = true): Promise<StoredLogLine[]> => {
    const rows = texts.map((text) => {
      sequence += 1;
      return {
        ...{ project_id: 'default', function_id: functionId, execution_id: executionId, version_id: functionId },
        ...{ sequence, at: new Date(), stream: 'stdout', level: 'INFO', text },
      };
    });
    const lines = await plane.postgres.database.run(
      'write',
      (sql) => sql<StoredLogLine[]>`insert into log_lines ${sql(rows)} returning *`,
    );
    if (publish) plane.feed.publish(lines);
    return [...lines];
  };
  const record = (id: string, outcome = 'success', more: object = {}) => {
    const row = {
      ...{ id, project_id: 'default', function_id: functionId, function_name: 'talk', version_id: functionId },
      ...{ version_number: 3, trigger: 'api', epoch: 1, outcome, status_code: 200, node_id: 'node-1' },
      ...{
        input: '{}',
        output: '1',
        started_at: new Date('2026-01-01'),
        finished_at: new Date('2026-01-01T00:00:01Z'),
        ...more,
      },
    };
    return plane.postgres.database.run('record', (sql) => {
      const receipt = { runMs: 1_000.5, memoryMb: 128, memoryPeakBytes: 40 * 2 ** 20, initMs: 12.344 };
      return sql`insert into executions ${sql({ ...row, receipt: sql.json(receipt) as never })}`;
    });
  };

  /** Follows until `count` events arrived; returns their text and the last id. */
  const follow = async (
    query: string,
    count: number,
    headers: Record<string, string> = {},
    started?: () => Promise<unknown>,
  ) => {
    const stop = new AbortController();
    const response = await fetch(`${plane.url}/api/functions/talk/logs?follow=true${query}`, {
      headers: { 'x-api-key': plane.key, ...headers },
      signal: AbortSignal.any([stop.signal, AbortSignal.timeout(10_000)]),
    });
    expect(response.headers.get('content-type')).toBe('text/event-stream');
    await started?.();
    let text = '';
    const events = () => text.split('\n\n').filter((event) => event.startsWith('event: log'));
    for await (const chunk of response.body ?? []) {
      text += Buffer.from(chunk).toString();
      if (events().length >= count) break;
    }
    stop.abort();
    const last =
      events()
        .at(-1)
        ?.match(/^id: (\d+)$/m)?.[1] ?? '';
    return { last, texts: events().map((event) => JSON.parse(event.match(/^data: (.*)$/m)?.[1] ?? '').text) };
  };

  it('lists newest first, page by page, with filters, and shows one with input and output', async () => {
    const ids = Array.from({ length: 5 }, () => uuidv7());
    for (const [i, id] of ids.entries()) await record(id, i === 2 ? 'timeout' : 'success');
    const first = await plane.call('GET', '/api/executions?limit=3&function=talk');
    const second = await plane.call('GET', `/api/executions?limit=3&function=talk&cursor=${first.body.nextCursor}`);
    const listed = [first, second].flatMap(({ body }) => body.executions as { id: string }[]).map(({ id }) => id);
    expect(listed).toEqual([...ids].reverse());
    expect(second.body.nextCursor).toBeNull();
    const timeouts = await plane.call('GET', '/api/executions?outcome=timeout');
    expect(timeouts.body.executions).toMatchObject([{ id: ids[2] }]);
    expect((await plane.call('GET', `/api/executions/${ids[0]}`)).body).toEqual({
      ...{
        id: ids[0],
        functionName: 'talk',
        version: 3,
        trigger: 'api',
        status: 'succeeded',
        outcome: 'success',
        statusCode: 200,
        error: null,
        attempts: 1,
        epoch: 1,
        acceptedAt: null,
      },
      receipt: { runMs: 1_000.5, memoryMb: 128, memoryPeakBytes: 41_943_040, initMs: 12.344 },
      ...{ nodeId: 'node-1', startedAt: '2026-01-01T00:00:00.000Z', finishedAt: '2026-01-01T00:00:01.000Z' },
      ...{ input: '{}', output: '1' },
    });
  });

  it.each(['nonsense', uuidv7()])('the execution %s does not exist', async (id) => {
    for (const path of [`/api/executions/${id}`, `/api/executions/${id}/logs`]) {
      expect(await plane.call('GET', path)).toMatchObject({
        status: 404,
        body: { error: { code: 'execution_not_found' } },
      });
    }
  });

  it("an execution's logs stand between AWS's own lines", async () => {
    const id = uuidv7();
    await record(id, 'timeout');
    await write(['one', 'two'], id);
    const { body } = await plane.call('GET', `/api/executions/${id}/logs`);
    expect((body.logs as { text: string }[]).map(({ text }) => text)).toEqual([
      `START RequestId: ${id} Version: 3`,
      'one',
      'two',
      `END RequestId: ${id}`,
      `REPORT RequestId: ${id}\tDuration: 1000.50 ms\tBilled Duration: 1001 ms\tMemory Size: 128 MB\tMax Memory Used: 40 MB\tInit Duration: 12.34 ms`,
      `2026-01-01T00:00:01.000Z ${id} Task timed out after 1.00 seconds`,
    ]);
  });

  it('gives the newest lines of a function, oldest first, and those after a line', async () => {
    const lines = await write(['a', 'b', 'c']);
    const newest = await plane.call('GET', '/api/functions/talk/logs?limit=2');
    expect(newest.body).toMatchObject({ logs: [{ text: 'b' }, { text: 'c' }], lastId: lines[2]?.id });
    const after = await plane.call('GET', `/api/functions/talk/logs?after=${lines[0]?.id}`);
    expect(after.body.logs).toMatchObject([{ text: 'b' }, { text: 'c' }]);
    expect((await plane.call('GET', '/api/functions/talk/logs?since=1h&limit=1')).body.logs).toHaveLength(1);
    expect((await plane.call('GET', '/api/functions/talk/logs?since=2100-01-01')).body).toMatchObject({ logs: [] });
    expect((await plane.call('GET', '/api/functions/talk/logs?since=x')).status).toBe(400);
    expect((await plane.call('GET', '/api/functions/none/logs')).status).toBe(404);
  });

  it('gives only lines with a text, or of one invocation, listed and followed', async () => {
    const [one, other] = [uuidv7(), uuidv7()];
    const [first] = await write(['disk is 100% full', 'Disk is empty', 'all well'], one);
    await write(['disk is half full'], other);
    const texts = async (query: string) => {
      const { body } = await plane.call('GET', `/api/functions/talk/logs?${query}`);
      return (body.logs as { text: string }[]).map(({ text }) => text);
    };
    expect(await texts('search=disk%20is')).toEqual(['disk is 100% full', 'disk is half full']);
    expect(await texts('search=100%25')).toEqual(['disk is 100% full']);
    expect(await texts(`search=isk&requestId=${one.toUpperCase()}`)).toEqual(['disk is 100% full', 'Disk is empty']);
    expect(await texts(`requestId=${other}&after=${first?.id}`)).toEqual(['disk is half full']);
    expect(await texts(`requestId=${uuidv7()}`)).toEqual([]);
    expect(await texts('search=')).toContain('all well');
    // Where to follow from when nothing was found is now, not the beginning.
    const none = await plane.call('GET', '/api/functions/talk/logs?search=nowhere&since=1h');
    const { body: all } = await plane.call('GET', '/api/functions/talk/logs');
    expect(none.body).toEqual({ logs: [], lastId: all.lastId });
    const followed = await follow(`&search=is&requestId=${one}&after=${(first?.id ?? 0) - 1}`, 3, {}, async () => {
      await write(['another disk is full'], other);
      await write(['nothing', 'this is live'], one);
    });
    expect(followed.texts).toEqual(['disk is 100% full', 'Disk is empty', 'this is live']);
    for (const [query, field] of [
      ['requestId=1', 'requestId'],
      ['search=%00', 'search'],
      [`search=${'x'.repeat(201)}`, 'search'],
    ]) {
      const { status, body } = await plane.call('GET', `/api/functions/talk/logs?${query}`);
      expect([status, JSON.stringify(body)]).toEqual([400, expect.stringContaining(String(field))]);
    }
  });

  it('a follower gets the backlog and then live lines, each once and in order, and resumes where it was', async () => {
    const [first] = await write(['before']);
    await write(Array.from({ length: 700 }, (_, i) => `old-${i}`));
    const followed = await follow(`&after=${first?.id}`, 710, {}, () =>
      write(Array.from({ length: 10 }, (_, i) => `live-${i}`)),
    );
    const expected = [
      ...Array.from({ length: 700 }, (_, i) => `old-${i}`),
      ...Array.from({ length: 10 }, (_, i) => `live-${i}`),
    ];
    expect(followed.texts).toEqual(expected);
    await write(['missed']);
    const resumed = await follow('', 1, { 'last-event-id': followed.last });
    expect(resumed.texts).toEqual(['missed']);
  });

  it('a follower without a place to resume from starts now', async () => {
    const followed = await follow('', 2, {}, async () => {
      await write(['now-1']);
      await write(['now-2']);
    });
    expect(followed.texts.at(-1)).toBe('now-2');
    expect(followed.texts).not.toContain('missed');
  });

  it('lines that another replica committed arrive by the poll', async () => {
    const followed = await follow('', 1, {}, async () => {
      await write(['elsewhere'], uuidv7(), false);
    });
    expect(followed.texts).toEqual(['elsewhere']);
  });

  it('a follower misses no line and sees none twice while several replicas write large and small batches at once', async () => {
    const rounds = Array.from({ length: 60 }, (_, i) => i);
    const sizeOf = (round: number) => (round % 3 === 0 ? 300 : 1);
    const all = rounds.flatMap((round) => Array.from({ length: sizeOf(round) }, (_, i) => `${round}-${i}`));
    const followed = await follow('', all.length, {}, async () => {
      const commit = async (round: number) => {
        const lines = await insertLogLines(
          plane.postgres.database,
          Array.from({ length: sizeOf(round) }, (_, i) => ({
            ...{
              projectId: 'default',
              functionId,
              executionId: uuidv7(),
              versionId: functionId,
              epoch: 1,
              sequence: i,
            },
            ...({ at: new Date(), stream: 'stdout', level: 'INFO', text: `${round}-${i}` } as const),
          })),
        );
        // Some are heard of by the feed, in whatever order.
        if (round % 2 === 0) plane.feed.publish(lines);
      };
      await Promise.all(rounds.map(commit));
    });
    expect([...followed.texts].sort()).toEqual([...all].sort());
  });

  it('a follower that does not read is dropped, and the publisher never waits', async () => {
    const stop = new AbortController();
    const response = await fetch(`${plane.url}/api/functions/talk/logs?follow=true`, {
      headers: { 'x-api-key': plane.key },
      signal: stop.signal,
    });
    const text = 'x'.repeat(100_000);
    for (let i = 0; i < 100; i += 1) await write(Array.from({ length: 2 }, () => text));
    let received = '';
    for await (const chunk of response.body ?? []) received = (received + Buffer.from(chunk).toString()).slice(-500);
    expect(received).toContain('event: dropped');
    expect(received).toContain('slow_client');
  });
});
