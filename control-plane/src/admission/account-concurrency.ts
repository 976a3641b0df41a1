import { errorText } from '@lambda-fleet/common/errors';
import type { Logger } from '@lambda-fleet/common/logger';
import type { Database } from '../db/database.js';

/** Of an account's limit this part can be reserved by nobody. */
const UNRESERVED_PART = 0.1;

/** Functions change in bursts. */
const LINGER_MS = 50;
/** The backstop for lost notices. */
const LOOK_MS = 10_000;

/** What of a project's limit stays for the functions that have reserved nothing. */
export function unreservedMin(accountMax: number): number {
  return Math.ceil(accountMax * UNRESERVED_PART);
}

/**
 * What each project's functions have reserved together, in memory, so that an invocation needs no database to know what is
 * left for the others. While the database is away what is known stays.
 */
export class AccountConcurrency {
  #reserved: ReadonlyMap<string, number> = new Map();
  #stale = false;
  #loading = false;
  #closed = false;
  #timer: NodeJS.Timeout | undefined;
  readonly #backstop: NodeJS.Timeout;
  readonly #unreservedMin: number;

  /** @param accountMax invocations at once of one project */
  constructor(
    private readonly database: Database,
    private readonly accountMax: number,
    private readonly log: Logger,
  ) {
    this.#unreservedMin = unreservedMin(accountMax);
    this.#backstop = setInterval(() => this.functionsChanged(), LOOK_MS).unref();
    this.functionsChanged();
  }

  /** Invocations at once of all those functions of the project together that have reserved nothing. */
  unreservedOf(projectId: string): number {
    return Math.max(this.#unreservedMin, this.accountMax - (this.#reserved.get(projectId) ?? 0));
  }

  functionsChanged(): void {
    this.#stale = true;
    if (this.#closed || this.#loading || this.#timer !== undefined) return;
    this.#timer = setTimeout(() => void this.#load(), LINGER_MS).unref();
  }

  close(): void {
    this.#closed = true;
    clearInterval(this.#backstop);
    clearTimeout(this.#timer);
  }

  async #load(): Promise<void> {
    this.#timer = undefined;
    this.#loading = true;
    this.#stale = false;
    try {
      const rows = await this.database.run(
        'sum reserved concurrency',
        (sql) => sql<{ projectId: string; reserved: number }[]>`
          select project_id, sum(reserved_concurrency)::integer as reserved
          from functions where reserved_concurrency > 0 group by project_id`,
      );
      this.#reserved = new Map(rows.map(({ projectId, reserved }) => [projectId, reserved]));
    } catch (err) {
      this.log.warn({ reason: errorText(err) }, 'reserved_concurrency_not_loaded');
    }
    this.#loading = false;
    if (this.#stale) this.functionsChanged();
  }
}
