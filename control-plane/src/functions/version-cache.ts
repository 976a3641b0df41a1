import { DeadlineExceeded, withDeadline } from '@lambda-fleet/common/deadline';
import { FleetError } from '@lambda-fleet/common/errors';
import { concurrencyLimits, isSameLimits } from '../admission/concurrency-limits.js';
import type { NotificationListener } from '../db/notification-listener.js';
import { type FunctionRecord, resolvedVersionOf } from './function-record.js';
import { type FunctionsNotice, type FunctionTable, functionNotFound } from './function-table.js';
import type { ResolvedVersion } from './resolved-version.js';

interface Entry {
  readonly version: ResolvedVersion;
  readonly loadedAt: number;
}

/** An older entry is still used but looked up again behind the caller's back: the backstop for lost notices. */
const FRESH_MS = 10_000;
/** An older one is not used, unless the database is away. */
const USABLE_MS = 60_000;
/** A database that is slower than this is as good as away to whoever knows an old answer. */
const LOOK_UP_DEADLINE_MS = 1_000;
/** How long "no such function" is believed. */
const ABSENT_MS = 2_000;
/** A hundred thousand functions, some by their routes too: 1 to 2 KB each, and 4 KB more where all have the largest environment. */
const ENTRIES_MAX = 120_000;
const ABSENT_MAX = 1_000;

/**
 * RESOLVE: names and routes to versions, from memory.
 *
 * Entries go when a notice says that their function changed, which its writing
 * statement sends and this process also does by itself; all of them are doubted
 * when notices may have been lost. While the database is away known functions
 * go on being served.
 */
export class VersionCache {
  readonly #entries = new Map<string, Entry>();
  /** When a name was last found to be nobody's. Apart from the entries: guessed names must not push real ones out. */
  readonly #absent = new Map<string, number>();
  readonly #loads = new Map<string, Promise<ResolvedVersion | undefined>>();

  constructor(
    private readonly functions: FunctionTable,
    listener?: NotificationListener,
  ) {
    listener?.on('functions', (payload) => this.invalidate(JSON.parse(payload) as FunctionsNotice));
    listener?.onRestored(() => this.#doubtAll());
  }

  /** @throws FleetError `function_not_found`, `unavailable` */
  resolve(projectId: string, name: string): ResolvedVersion | Promise<ResolvedVersion> {
    return this.#resolve(
      `n ${projectId} ${name}`,
      () => this.functions.find(projectId, name),
      () => functionNotFound(name),
    );
  }

  /** @throws FleetError `route_not_found`, `unavailable` */
  resolveRoute(projectId: string, route: string): ResolvedVersion | Promise<ResolvedVersion> {
    return this.#resolve(
      `r ${projectId} ${route}`,
      () => this.functions.findByRoute(projectId, route),
      () =>
        new FleetError(
          'route_not_found',
          `No function has the route "${route.slice(0, 64)}". A function's route is its name unless it sets another.`,
        ),
    );
  }

  invalidate({ projectId, name, routes }: FunctionsNotice): void {
    for (const key of [`n ${projectId} ${name}`, ...routes.map((route) => `r ${projectId} ${route}`)]) {
      this.#entries.delete(key);
      this.#absent.delete(key);
      // A load that is under way may have read the old state: its result is not kept.
      this.#loads.delete(key);
    }
  }

  #resolve(
    key: string,
    find: () => Promise<FunctionRecord | undefined>,
    absent: () => FleetError,
  ): ResolvedVersion | Promise<ResolvedVersion> {
    const now = performance.now();
    const entry = this.#entries.get(key);
    if (entry !== undefined && now - entry.loadedAt < FRESH_MS) return entry.version;
    if (now - (this.#absent.get(key) ?? -ABSENT_MS) < ABSENT_MS) throw absent();

    const load = this.#loads.get(key) ?? this.#load(key, find);
    const found = load.then((version) => version ?? Promise.reject(absent()));
    if (entry === undefined) return found;
    // Known, so it is served even when the look-up fails; the database has logged why.
    const served = found.catch((err: unknown) => {
      if (err instanceof FleetError && err.code === 'unavailable') return entry.version;
      throw err;
    });
    if (now - entry.loadedAt < USABLE_MS || this.functions.databaseAway) {
      served.catch(() => undefined);
      return entry.version;
    }
    return withDeadline('look-up of a known function', LOOK_UP_DEADLINE_MS, served).catch((err: unknown) => {
      if (err instanceof DeadlineExceeded) return entry.version;
      throw err;
    });
  }

  #load(key: string, find: () => Promise<FunctionRecord | undefined>): Promise<ResolvedVersion | undefined> {
    const load = find()
      .then((record) => {
        const previous = this.#entries.get(key)?.version;
        // The same version keeps its object: identity is how others notice a change.
        const unchanged = record !== undefined && previous !== undefined && isSame(previous, record);
        const version = unchanged ? previous : record && resolvedVersionOf(record);
        if (this.#loads.get(key) === load) this.#keep(key, version);
        return version;
      })
      .finally(() => {
        if (this.#loads.get(key) === load) this.#loads.delete(key);
      });
    this.#loads.set(key, load);
    return load;
  }

  #keep(key: string, version: ResolvedVersion | undefined): void {
    const loadedAt = performance.now();
    this.#entries.delete(key);
    this.#absent.delete(key);
    if (version === undefined) keepNewest(this.#absent, key, loadedAt, ABSENT_MAX);
    else keepNewest(this.#entries, key, { version, loadedAt }, ENTRIES_MAX);
  }

  #doubtAll(): void {
    this.#loads.clear();
    this.#absent.clear();
    const doubted = performance.now() - FRESH_MS;
    for (const [key, entry] of this.#entries) {
      if (entry.loadedAt > doubted) this.#entries.set(key, { ...entry, loadedAt: doubted });
    }
  }
}

/** Adds a key that is not there. The map's order is the order of loading, so its first is the oldest. */
function keepNewest<V>(map: Map<string, V>, key: string, value: V, max: number): void {
  map.set(key, value);
  if (map.size <= max) return;
  for (const oldest of map.keys()) {
    map.delete(oldest);
    return;
  }
}

function isSame(version: ResolvedVersion, record: FunctionRecord): boolean {
  const { id, projectId, reservedConcurrency, maximumConcurrency } = record;
  return (
    isSameLimits(version.limits, concurrencyLimits(id, projectId, reservedConcurrency, maximumConcurrency)) &&
    version.spec.versionId === record.versionId &&
    version.httpAuth === record.httpAuth &&
    version.keepPayloads === record.keepPayloads &&
    version.asyncMaxAgeMs === record.asyncMaxAgeMs
  );
}
