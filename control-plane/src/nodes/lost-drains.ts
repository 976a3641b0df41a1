import { errorText } from '@lambda-fleet/common/errors';
import type { Logger } from '@lambda-fleet/common/logger';
import type { Database } from '../db/database.js';
import type { DrainTable } from './drain-table.js';
import type { NodeRegistry } from './node-registry.js';
import { LOST_MS } from './node-session.js';

export interface LostDrainsOptions {
  readonly database: Pick<Database, 'away'>;
  readonly table: DrainTable;
  readonly registry: Pick<NodeRegistry, 'sessions'>;
  readonly log: Logger;
  /** Silence after which a draining node is lost. */
  readonly lostMs?: number;
  readonly lookMs?: number;
}

const LOOK_MS = 5_000;

/**
 * Records drains of nodes that went away as lost, on the database's clock and by one statement of whichever replica looks.
 *
 * While the database was away nobody could write that a node lives, so nothing is concluded before it has answered, and this
 * process has run, for as long as a node may be silent.
 */
export class LostDrains {
  readonly #timer: NodeJS.Timeout;
  #answeringSince: number | undefined;
  #lookedAt = performance.now();

  constructor(private readonly options: LostDrainsOptions) {
    this.#timer = setInterval(() => void this.look(), options.lookMs ?? LOOK_MS).unref();
  }

  close(): void {
    clearInterval(this.#timer);
  }

  /** Never rejects. */
  async look(): Promise<void> {
    const { database, table, registry, lostMs = LOST_MS, lookMs = LOOK_MS, log } = this.options;
    const now = performance.now();
    // This process was stopped for a while, and heard nobody.
    const stood = now - this.#lookedAt > 3 * lookMs;
    this.#lookedAt = now;
    if (database.away || stood) this.#answeringSince = undefined;
    this.#answeringSince ??= now;
    if (now - this.#answeringSince < lostMs) return;
    try {
      const lost = await table.loseSilent(
        lostMs,
        [...registry.sessions()].map(({ nodeId }) => nodeId),
      );
      if (lost.length > 0) log.warn({ nodes: lost }, 'draining_nodes_lost');
    } catch (err) {
      this.#answeringSince = undefined;
      log.warn({ reason: errorText(err) }, 'lost_drains_not_looked_for');
    }
  }
}
