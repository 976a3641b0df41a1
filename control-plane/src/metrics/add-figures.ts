import { NIL } from 'uuid';
import type { Sql } from '../db/connection-target.js';
import { binned, type Fragment, SUMMED } from './execution-figures.js';

/** The function id of rows that stand for all functions of a project. */
export const WHOLE_PROJECT: string = NIL;

/**
 * The part of a statement that adds figures to minutes and hours, of functions and of their projects: common table
 * expressions behind `counted`, with the columns minute, project_id, function_id, function_name, `SUMMED` and
 * memory_peak_bytes, and `bucketed`, with minute, project_id, function_id, kind (`duration` or `cpu`), bucket and n.
 *
 * Rows are written in the order of their keys, as by everybody, so that no two statements wait for each other.
 */
export function addFigures(sql: Sql): Fragment {
  const targets = sql`(values
      ('minute', minute, function_id, true), ('minute', minute, ${WHOLE_PROJECT}::uuid, false),
      ('hour', ${binned(sql, 3_600, sql`minute`)}, function_id, true),
      ('hour', ${binned(sql, 3_600, sql`minute`)}, ${WHOLE_PROJECT}::uuid, false)
    ) as target (per, at, target_id, named)`;
  const summed = sql.unsafe(SUMMED.map((name) => `sum(${name}) as ${name}`).join(', '));
  return sql`
    summed as (
      select per, at, project_id, target_id, max(case when named then function_name else '' end) as function_name,
        ${summed}, max(memory_peak_bytes) as memory_peak_bytes
      from counted cross join lateral ${targets} group by 1, 2, 3, 4
    ), summed_buckets as (
      select per, at, project_id, target_id, kind, bucket, sum(n) as n
      from bucketed cross join lateral ${targets} group by 1, 2, 3, 4, 5, 6
    ), histograms as (
      select per, at, project_id, target_id,
        jsonb_object_agg(bucket, n) filter (where kind = 'duration') as durations,
        jsonb_object_agg(bucket, n) filter (where kind = 'cpu') as cpus
      from summed_buckets group by 1, 2, 3, 4
    ), added as (
      select *, coalesce(durations, '{}') as duration_histogram, coalesce(cpus, '{}') as cpu_histogram
      from summed left join histograms using (per, at, project_id, target_id)
    ), minutes as (${upsert(sql, 'minute')}), hours as (${upsert(sql, 'hour')})`;
}

function upsert(sql: Sql, per: 'minute' | 'hour'): Fragment {
  const columns = sql.unsafe(SUMMED.join(', '));
  const sums = sql.unsafe(SUMMED.map((name) => `${name} = known.${name} + excluded.${name}`).join(', '));
  return sql`
    insert into ${sql(`function_${per}s`)} as known (
      project_id, function_id, ${sql(per)}, function_name, ${columns}, memory_peak_bytes, durations, cpus
    )
    select project_id, target_id, at, function_name, ${columns}, memory_peak_bytes, duration_histogram, cpu_histogram
    from added where per = ${per} order by project_id, target_id, at
    on conflict (project_id, function_id, ${sql(per)}) do update set
      function_name = excluded.function_name, ${sums},
      memory_peak_bytes = greatest(known.memory_peak_bytes, excluded.memory_peak_bytes),
      durations = ${merged(sql, 'durations')}, cpus = ${merged(sql, 'cpus')}`;
}

function merged(sql: Sql, column: 'durations' | 'cpus'): Fragment {
  const [known, added] = [sql.unsafe(`known.${column}`), sql.unsafe(`excluded.${column}`)];
  return sql`
    case when ${added} = '{}' then ${known} when ${known} = '{}' then ${added} else (
      select jsonb_object_agg(key, n) from (
        select key, sum(value::bigint) as n
        from (select * from jsonb_each_text(${known}) union all select * from jsonb_each_text(${added})) as both_of_them
        group by key
      ) as buckets
    ) end`;
}
