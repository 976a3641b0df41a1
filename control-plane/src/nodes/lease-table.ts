import type { Database } from '../db/database.js';

/** A node that a replica has heard of lately. */
export interface HeardNode {
  readonly id: string;
  /** The start of its agent. */
  readonly bootId: string;
  /** Whether it ends its work when its lease is over. One that is too old to has none: that it is lost would prove nothing. */
  readonly fences: boolean;
}

/** The leases of nodes, on the database's clock. */
export class LeaseTable {
  constructor(private readonly database: Database) {}

  /**
   * Renews the leases of these nodes and returns the epoch of each that is known. A new start of the agent, or a node that was
   * lost, begins the next epoch. What another replica has just renewed is left as it is.
   *
   * @param freshMs how old a renewal may be to be as good as one of now
   * @throws FleetError `unavailable`
   */
  async renew(heard: readonly HeardNode[], leaseMs: number, freshMs: number): Promise<ReadonlyMap<string, number>> {
    const nodes = heard.map(({ id, bootId, fences }) => ({ id, boot_id: fences ? bootId : null, fences }));
    const rows = await this.database.run(
      'renew node leases',
      (sql) => sql<{ id: string; epoch: number }[]>`
        with heard as (
          select * from jsonb_to_recordset(${sql.json(nodes)}) as r (id text, boot_id text, fences boolean)
        ), due as (
          select n.id, h.boot_id, h.fences,
            h.fences and (n.lease_boot_id is distinct from h.boot_id or n.lost_at is not null) as begins
          from nodes n join heard h using (id)
          where n.lease_boot_id is distinct from h.boot_id or n.lost_at is not null or n.lease_expires_at is null
            or n.lease_expires_at < now() + ${leaseMs - freshMs} * interval '1 millisecond'
          -- In one order: other replicas renew the same nodes at the same time.
          order by n.id for update of n
        ), renewed as (
          update nodes n set
            lease_epoch = n.lease_epoch + due.begins::integer, lease_boot_id = due.boot_id, lost_at = null,
            lease_expires_at = case when due.fences then now() + ${leaseMs} * interval '1 millisecond' end,
            last_seen_at = now()
          from due where n.id = due.id
          returning n.id, n.lease_epoch
        )
        select id, lease_epoch as epoch from renewed
        union all
        select n.id, n.lease_epoch from nodes n join heard using (id) where n.id not in (select id from due)`,
    );
    return new Map(rows.map(({ id, epoch }) => [id, epoch]));
  }

  /**
   * Writes down that nodes whose lease is over are lost, and returns them. Whoever finds an attempt that runs there knows by it
   * that it does not run any more.
   *
   * @throws FleetError `unavailable`
   */
  async declareLost(): Promise<readonly string[]> {
    const rows = await this.database.run(
      'declare nodes lost',
      (sql) => sql<{ id: string }[]>`
        with over as (
          select id from nodes where lease_expires_at < now() and lost_at is null order by id for update skip locked
        ), lost as (
          update nodes n set lost_at = now() from over where n.id = over.id
          returning n.id, n.project_id, n.lease_epoch, n.lease_expires_at
        ), events as (
          insert into node_events (project_id, node_id, kind, detail)
          select project_id, id, 'lost', jsonb_build_object('leaseEpoch', lease_epoch, 'leaseExpiredAt', lease_expires_at)
          from lost
        )
        select id from lost`,
    );
    return rows.map(({ id }) => id);
  }
}
