import type { Database } from '../db/database.js';
import type { SparseHistogram } from '../db/metric-tables.js';
import { WHOLE_PROJECT } from './add-figures.js';
import { binned, SUMMED, summedExecutions } from './execution-figures.js';
import type { MetricWindow } from './metric-window.js';
import { recentExecutions } from './recent-executions.js';

/** What adds up, of a function or a project and some time. */
export interface Figures {
  readonly invocations: number;
  readonly functionErrors: number;
  readonly timeouts: number;
  readonly outcomeUnknown: number;
  readonly notStarted: number;
  readonly throttles: number;
  readonly cold: number;
  readonly blank: number;
  readonly warm: number;
  readonly durationMs: number;
  readonly cpuMs: number;
  /** 0 when it is not known. */
  readonly memoryPeakBytes: number;
  readonly durations: SparseHistogram;
  readonly cpus: SparseHistogram;
}

export interface MetricPoint extends Figures {
  readonly at: Date;
}

export interface MetricSeries {
  readonly from: Date;
  readonly to: Date;
  /** Everything that was recorded before is in; of what came later, what was found in a bounded look. */
  readonly completeUntil: Date;
  /** Oldest first, one for each step, also where nothing happened. */
  readonly points: readonly MetricPoint[];
}

/** Reads minutes and hours, and what has not been added to them yet. */
export class MetricTable {
  constructor(private readonly database: Database) {}

  /**
   * Of a function, or of all functions of a project together.
   *
   * @throws FleetError `unavailable`
   */
  async series(projectId: string, functionId: string | undefined, window: MetricWindow): Promise<MetricSeries> {
    const { stepSeconds, points, per } = window;
    const rows = await this.database.run('read metrics', (sql) => {
      const names = sql.unsafe(SUMMED.join(', '));
      const sums = sql.unsafe(SUMMED.map((name) => `sum(${name})::float8 as ${name}`).join(', '));
      const zeros = sql.unsafe(SUMMED.map((name) => `coalesce(${name}, 0) as ${name}`).join(', '));
      return sql<(MetricPoint & { since: Date; now: Date; rolledUntil: Date })[]>`
        with ${recentExecutions(sql, projectId, functionId)}, bounds as (
          select ${binned(sql, stepSeconds, sql`now()`)} - ${(points - 1) * stepSeconds} * interval '1 second' as since
        ), kept as materialized (
          select ${binned(sql, stepSeconds, sql`${sql(per)}`)} as at, ${names}, memory_peak_bytes, durations, cpus
          from ${sql(`function_${per}s`)}
          where project_id = ${projectId} and function_id = ${functionId ?? WHOLE_PROJECT}
            and ${sql(per)} >= (select since from bounds)
        ), fresh as (
          select *, ${binned(sql, stepSeconds, sql`recorded_at`)} as at
          from recent where recorded_at >= (select since from bounds)
        ), summed as (
          select at, ${sums}, max(memory_peak_bytes)::float8 as memory_peak_bytes
          from (
            select at, ${names}, memory_peak_bytes from kept
            union all
            select at, ${names}, memory_peak_bytes from (
              select at, ${summedExecutions(sql)} from fresh group by at
            ) as fresh_sums
          ) as parts group by at
        ), buckets as (
          select at, kind, bucket, sum(n) as n from (
            select at, 'duration' as kind, key as bucket, value::bigint as n from kept, jsonb_each_text(durations)
            union all
            select at, 'cpu', key, value::bigint from kept, jsonb_each_text(cpus)
            union all
            select at, 'duration', duration_bucket::text, 1 from fresh where duration_bucket is not null
            union all
            select at, 'cpu', cpu_bucket::text, 1 from fresh where cpu_bucket is not null
          ) as parts group by 1, 2, 3
        ), histograms as (
          select at, jsonb_object_agg(bucket, n) filter (where kind = 'duration') as durations,
            jsonb_object_agg(bucket, n) filter (where kind = 'cpu') as cpus
          from buckets group by at
        )
        select at, since, now() as now, (select rolled_until from progress) as rolled_until, ${zeros},
          coalesce(memory_peak_bytes, 0) as memory_peak_bytes,
          coalesce(durations, '{}') as durations, coalesce(cpus, '{}') as cpus
        from bounds cross join generate_series(since, now(), ${stepSeconds} * interval '1 second') as at
          left join summed using (at) left join histograms using (at)
        order by at`;
    });
    const [first] = rows;
    // The first point stands at the start of the window, whether anything happened or not.
    if (first === undefined) throw new Error('a window has points');
    const { since, now, rolledUntil } = first;
    return { from: since, to: now, completeUntil: rolledUntil, points: rows };
  }
}
