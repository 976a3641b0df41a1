import { timingSafeEqual } from 'node:crypto';
import { DeadlineExceeded, withDeadline } from '@lambda-fleet/common/deadline';
import { FleetError } from '@lambda-fleet/common/errors';
import { v7 as uuidv7 } from 'uuid';
import type { Database } from '../db/database.js';
import { apiKeyPrefix, generateApiKey, hashApiKey } from './api-key.js';
import { loadPepper } from './pepper.js';

/** Who makes a request. */
export interface Caller {
  readonly projectId: string;
  readonly keyId: string;
}

interface KeyRow {
  readonly id: string;
  readonly projectId: string;
  readonly prefix: string;
  readonly hash: Buffer;
}

interface CachedKey {
  /** Undefined: no such key, or revoked. */
  readonly row: KeyRow | undefined;
  readonly checkedAt: number;
  usedAt: number;
}

/** A revoked key works for at most this long after the last look at the database. */
const FRESH_MS = 4_000;
/** Keys used in the last minute are looked at again before they would become stale. */
const REFRESH_MS = 2_000;
const REFRESHED_AFTER_USE_MS = 60_000;
/** A database that is slower than this is as good as away to whoever shows a known key. */
const LOOK_UP_DEADLINE_MS = 1_000;
/** While the database is away, known keys go on working for this long. */
const GRACE_MS = 10 * 60_000;
const CACHED_MAX = 10_000;

/**
 * The API keys of the fleet, verified in memory.
 *
 * A key that is in use is refreshed in the background, so that a request with it
 * waits for no database, and a revocation takes effect within {@link FRESH_MS}.
 */
export class ApiKeys {
  readonly #cache = new Map<string, CachedKey>();
  #pepper: Buffer | undefined;
  #refresh: NodeJS.Timeout | undefined;

  constructor(private readonly database: Database) {}

  start(): void {
    this.#refresh = setInterval(() => void this.#refreshUsed(), REFRESH_MS);
    this.#refresh.unref();
  }

  close(): void {
    clearInterval(this.#refresh);
  }

  /** Whose key this is; undefined when it is nobody's. Answers at once for keys seen before. */
  verify(key: string): Caller | undefined | Promise<Caller | undefined> {
    const prefix = apiKeyPrefix(key);
    if (prefix === undefined) return undefined;
    const cached = this.#cache.get(prefix);
    const now = performance.now();
    if (cached !== undefined && this.#pepper !== undefined && now - cached.checkedAt < FRESH_MS) {
      cached.usedAt = now;
      return callerOf(cached.row, key, this.#pepper);
    }
    return this.#verifySlowly(key, prefix, cached);
  }

  /** Stores a new key and returns its text, for the only time. */
  async create(projectId: string, name: string): Promise<string> {
    const pepper = await this.#loadPepper();
    const { prefix, key } = generateApiKey();
    await this.database.run(
      'create key',
      (sql) => sql`
        insert into api_keys (id, project_id, name, prefix, hash)
        values (${uuidv7()}, ${projectId}, ${name}, ${prefix}, ${hashApiKey(key, pepper)})`,
    );
    this.#cache.delete(prefix);
    return key;
  }

  async #verifySlowly(key: string, prefix: string, stale: CachedKey | undefined): Promise<Caller | undefined> {
    const pepper = await this.#loadPepper();
    const known = stale?.row !== undefined && performance.now() - stale.checkedAt < GRACE_MS;
    // While the database is away the background refresh finds out when it is back; nobody waits for that.
    if (known && this.database.away) return callerOf(stale.row, key, pepper);
    try {
      const load = this.#load([prefix]);
      await (known ? withDeadline('look-up of a known key', LOOK_UP_DEADLINE_MS, load) : load);
      return callerOf(this.#cache.get(prefix)?.row, key, pepper);
    } catch (err) {
      const away = err instanceof DeadlineExceeded || (err instanceof FleetError && err.code === 'unavailable');
      if (known && away) return callerOf(stale.row, key, pepper);
      throw err;
    }
  }

  async #load(prefixes: readonly string[]): Promise<void> {
    const found = await this.database.run(
      'find keys',
      (sql) => sql<KeyRow[]>`
        select id, project_id, prefix, hash from api_keys
        where prefix in ${sql(prefixes)} and revoked_at is null`,
    );
    const checkedAt = performance.now();
    for (const prefix of prefixes) {
      const usedAt = this.#cache.get(prefix)?.usedAt ?? checkedAt;
      // Deleted first, so that the map's order is the order of checking and the oldest goes first.
      this.#cache.delete(prefix);
      this.#cache.set(prefix, { row: found.find((row) => row.prefix === prefix), checkedAt, usedAt });
    }
    for (const oldest of this.#cache.keys()) {
      if (this.#cache.size <= CACHED_MAX) break;
      this.#cache.delete(oldest);
    }
  }

  async #refreshUsed(): Promise<void> {
    const since = performance.now() - REFRESHED_AFTER_USE_MS;
    const used = [...this.#cache].filter(([, cached]) => cached.row !== undefined && cached.usedAt > since);
    if (used.length === 0) return;
    // The database logs its own absence; keys then go on by their grace.
    await this.#load(used.slice(-1_000).map(([prefix]) => prefix)).catch(() => undefined);
  }

  async #loadPepper(): Promise<Buffer> {
    this.#pepper ??= await loadPepper(this.database);
    return this.#pepper;
  }
}

function callerOf(row: KeyRow | undefined, key: string, pepper: Buffer): Caller | undefined {
  if (row === undefined) return undefined;
  const hash = hashApiKey(key, pepper);
  if (hash.length !== row.hash.length || !timingSafeEqual(hash, row.hash)) return undefined;
  return { projectId: row.projectId, keyId: row.id };
}
