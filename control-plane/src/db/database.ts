import { DeadlineExceeded, withDeadline } from '@lambda-fleet/common/deadline';
import { errorText, FleetError } from '@lambda-fleet/common/errors';
import type { Logger } from '@lambda-fleet/common/logger';
import postgres from 'postgres';
import { driverClient, SocketTracker, type Sql } from './connection-target.js';

export interface DatabaseOptions {
  /** `postgres://…`; `?host=/folder` for a unix socket. */
  readonly url: string;
  readonly log: Logger;
  /** Connections at most. Default 10. */
  readonly connectionsMax?: number;
  /** Settings of each connection, by PostgreSQL's names. */
  readonly settings?: Readonly<Record<string, string>>;
}

const STATEMENT_DEADLINE_MS = 5_000;
/** The server gives up first, so that its connection stays usable. */
const SERVER_DEADLINE_MS = 4_500;
/** Statements that wait while the server is away; more are refused at once. */
const PENDING_MAX = 1_000;

/**
 * PostgreSQL, one statement at a time.
 *
 * Each state change is one statement, and the driver's `begin` and `reserve` are
 * never used: its interactive transactions have been seen to go on on another
 * caller's connection after a backend died.
 * A statement that fails as `unavailable` may still have been carried out.
 *
 * A lost connection fails the statements on it and is opened again by the next
 * one; a connection that is silent past the deadline is cut.
 */
export class Database {
  readonly #client: Sql;
  readonly #sockets = new SocketTracker();
  #pending = 0;
  #away = false;

  constructor(private readonly options: DatabaseOptions) {
    this.#client = driverClient(options.url, this.#sockets, {
      max: options.connectionsMax ?? 10,
      connection: {
        application_name: 'lambda-control-plane',
        statement_timeout: SERVER_DEADLINE_MS,
        ...options.settings,
      },
    });
  }

  get url(): string {
    return this.options.url;
  }

  /** The last statement that ended found no server, or none in time. Those who know an old answer need not wait for a new one. */
  get away(): boolean {
    return this.#away;
  }

  /**
   * Runs one statement. `what` names it in logs and errors.
   *
   * @throws FleetError `unavailable` when the server cannot be reached or is too slow;
   * what the server says about the statement itself (constraints) as {@link postgres.PostgresError}.
   */
  async run<T>(
    what: string,
    statement: (sql: Sql) => postgres.PendingQuery<T & readonly postgres.MaybeRow[]>,
  ): Promise<T> {
    if (this.#pending >= PENDING_MAX) throw this.#unavailable(what, new Error('too many statements are waiting'));
    this.#pending += 1;
    const query = statement(this.#client);
    try {
      const rows = await withDeadline(what, STATEMENT_DEADLINE_MS, query);
      this.#away = false;
      return rows;
    } catch (err) {
      if (err instanceof DeadlineExceeded) {
        // Taken back if it was not sent. Cancelling a sent one would dial again, and that failing is an unhandled rejection.
        if ('state' in query && query.state === null) query.cancel();
        this.#sockets.cutSilent(STATEMENT_DEADLINE_MS - 500);
      }
      throw isUnavailable(err) ? this.#unavailable(what, err) : err;
    } finally {
      this.#pending -= 1;
    }
  }

  async close(): Promise<void> {
    await this.#client.end({ timeout: 3 });
  }

  #unavailable(what: string, cause: unknown): FleetError {
    this.#away = true;
    this.options.log.warn({ what, reason: errorText(cause) }, 'database_unavailable');
    return new FleetError(
      'unavailable',
      'The database does not answer at the moment, so this could not be done. Try again in a few seconds.',
      undefined,
      { cause },
    );
  }
}

/** 08: connection; 53: resources; 57: operator (shutdown, cancelled by statement_timeout); 25006: read-only. */
const UNAVAILABLE_STATES = /^(08|53|57)|^25006$/;

function isUnavailable(err: unknown): boolean {
  if (err instanceof DeadlineExceeded) return true;
  if (err instanceof postgres.PostgresError) return UNAVAILABLE_STATES.test(err.code);
  // Errors of the driver and of sockets have a code in capitals: CONNECTION_CLOSED, ECONNREFUSED, ENOENT, EPIPE.
  const code = err instanceof Error && 'code' in err ? err.code : undefined;
  return typeof code === 'string' && /^(CONNECTION_|CONNECT_TIMEOUT|E[A-Z]+$)/.test(code);
}

/** The name of the unique or foreign-key constraint that a statement ran into, if it did. */
export function violatedConstraint(err: unknown): string | undefined {
  if (!(err instanceof postgres.PostgresError)) return undefined;
  return err.code === '23505' || err.code === '23503' ? err.constraint_name : undefined;
}
