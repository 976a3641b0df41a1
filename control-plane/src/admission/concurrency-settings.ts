import { FleetError } from '@lambda-fleet/common/errors';
import { z } from 'zod';
import type { Database } from '../db/database.js';
import { notice } from '../db/notification-listener.js';
import { functionNotFound } from '../functions/function-table.js';
import { parseInput } from '../functions/parse-input.js';
import { unreservedMin } from './account-concurrency.js';

/** How often a function may run at once. Null is none; a `reserved` of 0 switches it off. */
export interface ConcurrencySettings {
  readonly reserved: number | null;
  readonly maximum: number | null;
}

const LIMIT_MAX = 1_000_000;

/** Others who set limits of the same project at the same moment let one through each time. */
const TRIES_MAX = 20;

const limit = (min: number) => {
  const message = `must be a whole number from ${min} to ${LIMIT_MAX}, or null for none`;
  return z.int(message).min(min, message).max(LIMIT_MAX, message).nullable().optional();
};

const changes = z
  .strictObject({ reserved: limit(0), maximum: limit(1) }, 'must be an object')
  .refine(
    ({ reserved, maximum }) => reserved !== undefined || maximum !== undefined,
    'must say "reserved", "maximum" or both',
  );

interface Attempted extends ConcurrencySettings {
  readonly found: boolean;
  readonly fits: boolean;
  /** What is not reserved by other functions of the project. */
  readonly left: number;
  readonly changed: boolean;
}

/** The concurrency of functions. It belongs to the function and not to its versions. */
export class ConcurrencySettingsTable {
  /** @param accountMax invocations at once of one project */
  constructor(
    private readonly database: Database,
    private readonly accountMax: number,
  ) {}

  /** @throws FleetError `function_not_found` */
  async get(projectId: string, name: string): Promise<ConcurrencySettings> {
    const [row] = await this.database.run(
      'get concurrency',
      (sql) => sql<ConcurrencySettings[]>`
        select reserved_concurrency as reserved, maximum_concurrency as maximum
        from functions where project_id = ${projectId} and name = ${name}`,
    );
    if (row === undefined) throw functionNotFound(name);
    return row;
  }

  /**
   * What is absent stays.
   *
   * @param body of a request, not checked yet
   * @throws FleetError `function_not_found`, `invalid_request`; `conflict` when too little of the account's limit would be left
   */
  async change(projectId: string, name: string, body: unknown): Promise<ConcurrencySettings> {
    const asked = parseInput(changes, body);
    for (let tries = 0; tries < TRIES_MAX; tries += 1) {
      const { found, fits, left, changed, reserved, maximum } = await this.#attempt(projectId, name, asked);
      if (!found) throw functionNotFound(name);
      if (!fits) throw this.#tooMuch(left);
      if (changed) return { reserved, maximum };
    }
    throw new FleetError('conflict', `The limits of this project are being changed by others. Try again.`);
  }

  /** @throws FleetError `function_not_found` */
  clear(projectId: string, name: string): Promise<ConcurrencySettings> {
    return this.change(projectId, name, { reserved: null, maximum: null });
  }

  /**
   * Two of these at once read the same sum. So each writes the project's row, and only if nobody has since it began to read:
   * whoever comes second waits for the first, finds the row written and changes nothing.
   */
  async #attempt(
    projectId: string,
    name: string,
    { reserved, maximum }: { readonly reserved?: number | null; readonly maximum?: number | null },
  ): Promise<Attempted> {
    const reservableMax = this.accountMax - unreservedMin(this.accountMax);
    const [row] = await this.database.run('set concurrency', (sql) => {
      const notification = sql`jsonb_build_object(
        'projectId', ${projectId}::text, 'name', ${name}::text, 'routes', jsonb_build_array(route))::text`;
      return sql<Attempted[]>`
        with target as (
          select id from functions where project_id = ${projectId} and name = ${name}
        ), others as (
          select coalesce(sum(reserved_concurrency), 0)::integer as reserved from functions
          where project_id = ${projectId} and name <> ${name}
        ), judged as (
          select coalesce(${reserved ?? null}::integer, 0) = 0
            or others.reserved + ${reserved ?? 0}::integer <= ${reservableMax}::integer as fits,
            ${reservableMax}::integer - others.reserved as "left"
          from others
        ), alone as (
          update projects set created_at = created_at
          where project_id = ${projectId}
            and xmin::text = (select xmin::text from projects where project_id = ${projectId})
            and exists (select from target) and (select fits from judged)
          returning project_id
        ), changed as (
          update functions f set
            reserved_concurrency = ${reserved === undefined ? sql`reserved_concurrency` : sql`${reserved}::integer`},
            maximum_concurrency = ${maximum === undefined ? sql`maximum_concurrency` : sql`${maximum}::integer`}
          from alone, target where f.id = target.id
          returning f.route, f.reserved_concurrency as reserved, f.maximum_concurrency as maximum
        ), told as (select ${notice(sql, 'functions', notification)} from changed)
        select exists (select from target) as found, judged.fits, judged."left", changed.route is not null as changed,
          changed.reserved, changed.maximum, (select count(*) from told) as told
        from judged left join changed on true`;
    });
    if (row === undefined) throw functionNotFound(name);
    return row;
  }

  #tooMuch(left: number): FleetError {
    const kept = unreservedMin(this.accountMax);
    return new FleetError(
      'conflict',
      `At most ${Math.max(0, left)} can be reserved: of the account's ${this.accountMax} invocations at once, others have reserved what is missing, and ${kept} must stay for functions that reserve nothing. Reserve less, or take it from another function.`,
      { field: 'reserved', left: Math.max(0, left) },
    );
  }
}
