import { FleetError } from '@lambda-fleet/common/errors';
import { z } from 'zod';
import type { Destination } from '../db/async-tables.js';
import type { Sql } from '../db/connection-target.js';
import type { Database } from '../db/database.js';
import { notice } from '../db/notification-listener.js';
import { functionName } from '../functions/definition.js';
import { functionNotFound } from '../functions/function-table.js';
import { parseInput } from '../functions/parse-input.js';
import type { WebhookSender } from '../webhooks/webhook-sender.js';

/** How a function's async invocations are tried, and where what became of them goes. */
export interface AsyncSettings {
  readonly retries: number;
  readonly retryDelaysMs: readonly number[];
  readonly maxAgeMs: number;
  readonly onSuccess: Destination | null;
  readonly onFailure: Destination | null;
}

const RETRIES_MAX = 5;
const DELAY_MS_MAX = 3_600_000;
const AGE_MS_MAX = 21_600_000;

const whole = (min: number, max: number) => {
  const message = `must be a whole number from ${min} to ${max}`;
  return z.int(message).min(min, message).max(max, message);
};

const destination = z
  .union(
    [z.strictObject({ function: functionName }), z.strictObject({ url: z.string('must be text') })],
    'must be {"function": "<name>"}, {"url": "https://…"} or null',
  )
  .nullable()
  .optional();

const changes = z.strictObject(
  {
    retries: whole(0, RETRIES_MAX).optional(),
    retryDelaysMs: z
      .array(whole(0, DELAY_MS_MAX), 'must be a list of milliseconds')
      .min(1, 'must hold at least one delay')
      .max(RETRIES_MAX, `must hold at most ${RETRIES_MAX} delays`)
      .optional(),
    maxAgeMs: whole(1_000, AGE_MS_MAX).optional(),
    onSuccess: destination,
    onFailure: destination,
  },
  'must be an object',
);

/** The settings of functions for their async invocations. They belong to the function and not to its versions. */
export class AsyncSettingsTable {
  constructor(
    private readonly database: Database,
    private readonly webhooks: Pick<WebhookSender, 'check'>,
  ) {}

  /** @throws FleetError `function_not_found` */
  async get(projectId: string, name: string): Promise<AsyncSettings> {
    const [row] = await this.database.run(
      'get async settings',
      (sql) => sql<AsyncSettings[]>`
        select ${columns(sql)} from functions where project_id = ${projectId} and name = ${name}`,
    );
    if (row === undefined) throw functionNotFound(name);
    return row;
  }

  /**
   * What is absent stays.
   *
   * @param body of a request, not checked yet
   * @throws FleetError `function_not_found`, `invalid_request`
   */
  async change(projectId: string, name: string, body: unknown): Promise<AsyncSettings> {
    const { retries, retryDelaysMs, maxAgeMs, ...asked } = parseInput(changes, body);
    const onSuccess = await this.#checked(projectId, asked.onSuccess, 'onSuccess');
    const onFailure = await this.#checked(projectId, asked.onFailure, 'onFailure');
    const [row] = await this.database.run('change async settings', (sql) => {
      const changed = sql`jsonb_build_object(
        'projectId', ${projectId}::text, 'name', ${name}::text, 'routes', jsonb_build_array(route))::text`;
      return sql<AsyncSettings[]>`
        with changed as (
          update functions set
            async_retries = coalesce(${retries ?? null}::smallint, async_retries),
            async_retry_delays_ms = coalesce(${retryDelaysMs ? sql.json(retryDelaysMs) : null}::jsonb, async_retry_delays_ms),
            async_max_age_ms = coalesce(${maxAgeMs ?? null}::integer, async_max_age_ms),
            on_success = ${onSuccess === undefined ? sql`on_success` : jsonOrNull(sql, onSuccess)},
            on_failure = ${onFailure === undefined ? sql`on_failure` : jsonOrNull(sql, onFailure)}
          where project_id = ${projectId} and name = ${name}
          returning *
        ), told as (select ${notice(sql, 'functions', changed)} from changed)
        select ${columns(sql)} from changed, told`;
    });
    if (row === undefined) throw functionNotFound(name);
    return row;
  }

  /** @throws FleetError `invalid_request` when nothing can be sent there */
  async #checked(
    projectId: string,
    asked: Destination | null | undefined,
    field: string,
  ): Promise<Destination | null | undefined> {
    if (asked === undefined || asked === null) return asked;
    if ('url' in asked) return { url: (await this.webhooks.check(asked.url, `${field}.url`)).href };
    const [found] = await this.database.run(
      'find destination',
      (sql) => sql`select id from functions where project_id = ${projectId} and name = ${asked.function}`,
    );
    if (found !== undefined) return asked;
    throw new FleetError('invalid_request', `${field}.function names no function of this project.`, {
      field: `${field}.function`,
    });
  }
}

function columns(sql: Sql) {
  return sql`async_retries as retries, async_retry_delays_ms as retry_delays_ms, async_max_age_ms as max_age_ms,
    on_success, on_failure`;
}

function jsonOrNull(sql: Sql, value: Destination | null) {
  return sql`${value === null ? null : sql.json({ ...value })}::jsonb`;
}
