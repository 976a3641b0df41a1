import { errorText } from '@lambda-fleet/common/errors';
import type { Logger } from '@lambda-fleet/common/logger';
import type { Database } from '../db/database.js';

export interface ReplicaDirectoryOptions {
  readonly database: Database;
  /** `host:port` at which agents reach this process; undefined announces nothing. */
  readonly address: string | undefined;
  /** Called when another replica has come or gone. */
  readonly onChange: () => void;
  readonly log: Logger;
}

const BEAT_MS = 5_000;
/** One that has not been heard of for so long is not announced any more. */
const ALIVE_S = 30;
const FORGET_S = 3_600;
/** As many as an agent dials. */
const PEERS_MAX = 16;

/** Rows of `settings`: the address is in the name, the database's time of the last beat in the value. */
const PREFIX = 'replica:';

/**
 * Where the replicas of this control plane are reached by agents: each writes its own address down, and all announce those
 * that are alive. While the database is away the list stays as it was.
 */
export class ReplicaDirectory {
  #peers: readonly string[];
  readonly #timer: NodeJS.Timeout;

  constructor(private readonly options: ReplicaDirectoryOptions) {
    this.#peers = options.address === undefined ? [] : [options.address];
    this.#timer = setInterval(() => void this.beat(), BEAT_MS).unref();
  }

  /** Those that are alive, this one included. */
  readonly peers = (): readonly string[] => this.#peers;

  /** Says that this one is alive, and finds out who else is. Never rejects. */
  async beat(): Promise<void> {
    const { address, log, onChange } = this.options;
    try {
      const alive = new Set(await this.#exchange());
      if (address !== undefined) alive.add(address);
      const peers = [...alive].sort().slice(0, PEERS_MAX);
      if (peers.join() === this.#peers.join()) return;
      this.#peers = peers;
      log.info({ peers }, 'replicas_changed');
      onChange();
    } catch (err) {
      log.warn({ reason: errorText(err) }, 'replicas_not_looked_up');
    }
  }

  /** Leaves the list, so that no agent is sent here any more. */
  async close(): Promise<void> {
    clearInterval(this.#timer);
    const { database, address, log } = this.options;
    if (address === undefined) return;
    await database
      .run(
        'leave replicas',
        (sql) => sql`delete from settings where project_id = 'default' and name = ${PREFIX + address}`,
      )
      .catch((err: unknown) => log.debug({ reason: errorText(err) }, 'replica_not_left'));
  }

  async #exchange(): Promise<readonly string[]> {
    const { database, address } = this.options;
    const rows = await database.run('look up replicas', (sql) => {
      const beat = sql`
        mine as (
          insert into settings (project_id, name, value)
          values ('default', ${PREFIX + address}, convert_to(extract(epoch from now())::text, 'UTF8'))
          on conflict (project_id, name) do update set value = excluded.value
        ), gone as (
          delete from settings using (
            select s.name from settings s join replicas r using (name)
            where s.project_id = 'default' and r.silent_s > ${FORGET_S} order by s.name for update of s skip locked
          ) old where settings.project_id = 'default' and settings.name = old.name
        )`;
      return sql<{ address: string }[]>`
        with replicas as (
          select name, extract(epoch from now())::double precision - convert_from(value, 'UTF8')::double precision as silent_s
          from settings where project_id = 'default' and starts_with(name, ${PREFIX})
        ) ${address === undefined ? sql`` : sql`, ${beat}`}
        select substr(name, ${PREFIX.length + 1}::integer) as address from replicas where silent_s < ${ALIVE_S} order by name limit ${PEERS_MAX}`;
    });
    return rows.map((row) => row.address);
  }
}
