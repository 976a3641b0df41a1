import { describe, expect, it } from 'vitest';
import { JobWaiters } from './job-waiters.js';

const HOUR_MS = 3_600_000;
const nobody = () => new AbortController().signal;

describe('JobWaiters', () => {
  it.each([
    ['the job finishes', (waiters: JobWaiters) => waiters.finished('job')],
    ['the server stops', (waiters: JobWaiters) => waiters.close()],
  ])('all who wait for a job are woken when %s', async (_what, happen) => {
    const waiters = new JobWaiters();
    const waits = [waiters.wait('job', HOUR_MS, nobody()), waiters.wait('job', HOUR_MS, nobody())];
    happen(waiters);
    await Promise.all(waits.map(({ until }) => until));
    for (const { end } of waits) end();
  });

  it('a client that goes away waits no longer, and nobody else is woken', async () => {
    const waiters = new JobWaiters();
    const client = new AbortController();
    const gone = waiters.wait('job', HOUR_MS, client.signal);
    let woken = false;
    const other = waiters.wait('job', HOUR_MS, nobody());
    void other.until.then(() => {
      woken = true;
    });
    client.abort();
    await gone.until;
    gone.end();
    waiters.finished('another job');
    await Promise.resolve();
    expect(woken).toBe(false);
    waiters.finished('job');
    await other.until;
    other.end();
  });

  it('nobody begins to wait at a server that stops, and nobody waits longer than asked for', async () => {
    const waiters = new JobWaiters();
    const short = waiters.wait('job', 1, nobody());
    await short.until;
    short.end();
    waiters.close();
    const late = waiters.wait('job', HOUR_MS, nobody());
    await late.until;
    late.end();
  });
});
