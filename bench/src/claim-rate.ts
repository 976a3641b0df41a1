import { randomBytes, randomUUID } from 'node:crypto';
import { rm } from 'node:fs/promises';
import {
  type EmbeddedPostgres,
  startEmbeddedPostgres,
} from '@lambda-fleet/common/embedded-postgres/start-embedded-postgres';
import { claimInvocations } from '@lambda-fleet/control-plane/async/claim-invocations';
import { Database } from '@lambda-fleet/control-plane/db/database';
import { migrateDatabase } from '@lambda-fleet/control-plane/db/migrate';
import { pino } from 'pino';
import type { BenchOptions } from './bench.js';
import { median, rounded } from './statistics.js';

export interface ClaimRates {
  /** Invocations claimed per second, the median of the rounds. */
  readonly perSecond: number;
  readonly ofShallowPerSecond: number;
  /** The first over the second. */
  readonly ratio: number;
}

/** One statement of the runner takes about so many. */
const CLAIM = 64;
const SHALLOW = 1_000;
/** Rows of one statement that fills a queue: within the deadline of statements. */
const FILL = 50_000;

/**
 * How fast a queue of `depth` rows in one lane is claimed, beside one of a thousand rows in the same PostgreSQL, in turns.
 * Both are the tables and the statement of the product; nothing else runs.
 */
export async function measureClaimRates(
  depth: number,
  rounds: number,
  { signal, onProgress }: Pick<BenchOptions, 'signal' | 'onProgress'>,
): Promise<ClaimRates> {
  // Not below a 0700 folder: as root the server runs as another uid.
  const root = `/tmp/lambda-bench-${randomBytes(4).toString('hex')}`;
  const log = pino({ level: 'silent' });
  const server = await startEmbeddedPostgres({ dataDir: `${root}/data`, socketDir: `${root}/socket`, log });
  const queues: Queue[] = [];
  try {
    const deep = await Queue.create(server, 'deep');
    queues.push(deep);
    const shallow = await Queue.create(server, 'shallow');
    queues.push(shallow);
    for (let filled = 0; filled < depth; filled += FILL) {
      signal.throwIfAborted();
      await deep.fill(Math.min(FILL, depth - filled));
      onProgress(`queued ${Math.min(depth, filled + FILL)} of ${depth}`);
    }
    const rates: { deep: number[]; shallow: number[] } = { deep: [], shallow: [] };
    for (let round = 0; round <= rounds; round += 1) {
      signal.throwIfAborted();
      onProgress(`claiming, round ${round} of ${rounds}`);
      await shallow.empty();
      await shallow.fill(SHALLOW);
      const of = { shallow: await shallow.claimRate(), deep: await deep.claimRate() };
      // The first round reads pages for the first time.
      if (round === 0) continue;
      rates.deep.push(of.deep);
      rates.shallow.push(of.shallow);
    }
    const [perSecond, ofShallowPerSecond] = [median(rates.deep), median(rates.shallow)];
    return {
      perSecond: Math.round(perSecond),
      ofShallowPerSecond: Math.round(ofShallowPerSecond),
      ratio: rounded(perSecond / ofShallowPerSecond),
    };
  } finally {
    for (const queue of queues) await queue.close();
    await server.stop();
    await rm(root, { recursive: true, force: true });
  }
}

/** A database with one function's queue. */
class Queue {
  private constructor(
    private readonly database: Database,
    private readonly lane: string,
  ) {}

  static async create(server: EmbeddedPostgres, name: string): Promise<Queue> {
    const log = pino({ level: 'silent' });
    const admin = new Database({ url: server.url, log, connectionsMax: 1 });
    await admin.run('create database', (sql) => sql`create database ${sql(name)}`);
    await admin.close();
    const url = new URL(server.url);
    url.pathname = `/${name}`;
    await migrateDatabase({ url: url.href, log });
    const database = new Database({ url: url.href, log, connectionsMax: 2 });
    return new Queue(database, randomUUID());
  }

  async fill(rows: number): Promise<void> {
    await this.database.run(
      'fill',
      (sql) => sql`
        with added as (
          insert into async_invocations (
            id, project_id, lane_id, kind, function_id, function_name, trigger, payload, context, expires_at
          )
          select gen_random_uuid(), 'default', ${this.lane}, 'function', ${this.lane}, 'f', 'async', '{"name":"World"}', '{}',
            now() + interval '6 hours'
          from generate_series(1, ${rows})
        )
        insert into lanes as l (id, project_id, queued, queued_bytes, next_due, virtual_time)
        values (${this.lane}, 'default', ${rows}, ${rows * 16}, now(), 0)
        on conflict (id) do update set queued = l.queued + excluded.queued, next_due = excluded.next_due`,
    );
  }

  async empty(): Promise<void> {
    await this.database.run('empty', (sql) => sql`truncate async_invocations, lanes`);
  }

  /** Claims a thousand. */
  async claimRate(): Promise<number> {
    const startedAt = performance.now();
    let claimed = 0;
    while (claimed < SHALLOW - CLAIM) {
      const rows = await claimInvocations(this.database, {
        ...{
          owner: this.lane,
          leaseMs: 60_000,
          limit: CLAIM,
          shares: new Map(),
          perLane: CLAIM,
          perJobLane: CLAIM,
          jobsMax: CLAIM,
        },
      });
      if (rows.length === 0) throw new Error('nothing could be claimed');
      claimed += rows.length;
    }
    return (claimed * 1_000) / (performance.now() - startedAt);
  }

  async close(): Promise<void> {
    await this.database.close();
  }
}
