import type { Logger } from '@lambda-fleet/common/logger';
import type { Database } from '../db/database.js';
import { Sweep } from '../db/sweep.js';

const INTERVAL_MS = 10 * 60_000;
const BATCH = 1_000;

/** Removes the oldest events of nodes that have more than `perNodeMax`. */
export class NodeEventSweep extends Sweep {
  constructor(
    private readonly database: Database,
    private readonly perNodeMax: number,
    log: Logger,
  ) {
    super('node_event', INTERVAL_MS, log);
  }

  protected sweep(): Promise<number> {
    return this.repeat(BATCH, () => this.#removeSome());
  }

  async #removeSome(): Promise<number> {
    const rows = await this.database.run(
      'remove old node events',
      (sql) => sql`
        delete from node_events where id in (
          select oldest.id from nodes, lateral (
            select id from node_events
            where node_id = nodes.id and id <= (
              select id from node_events newest where newest.node_id = nodes.id
              order by id desc offset ${this.perNodeMax} limit 1
            )
            order by id limit ${BATCH}
          ) oldest
          limit ${BATCH}
        ) returning id`,
    );
    return rows.length;
  }
}
