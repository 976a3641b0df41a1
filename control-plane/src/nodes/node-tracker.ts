import { setTimeout as sleep } from 'node:timers/promises';
import { Backoff } from '@lambda-fleet/common/backoff';
import type { Logger } from '@lambda-fleet/common/logger';
import type { NodeRegistry } from './node-registry.js';
import type { NodeSession } from './node-session.js';
import type { NodeStore } from './node-store.js';

export interface NodeTrackerOptions {
  readonly registry: NodeRegistry;
  readonly store: NodeStore;
  readonly log: Logger;
}

const TOUCH_INTERVAL_MS = 10_000;

/**
 * Keeps what PostgreSQL says of nodes and what this process knows of them together:
 * who connected, who was heard of lately, and whom an operator took out of service.
 */
export class NodeTracker {
  readonly #timer: NodeJS.Timeout;

  constructor(private readonly options: NodeTrackerOptions) {
    this.#timer = setInterval(() => void this.#touch(), TOUCH_INTERVAL_MS);
    this.#timer.unref();
  }

  /** Records the node behind the link's back: a node serves even while the database is away. */
  welcomed(session: NodeSession): void {
    void this.#record(session);
  }

  close(): void {
    clearInterval(this.#timer);
  }

  async #record(session: NodeSession): Promise<void> {
    const { registry, store, log } = this.options;
    const backoff = new Backoff({ firstMs: 200, capMs: 5_000 });
    while (!session.closed) {
      try {
        const { eligible } = await store.recordHello(session.nodeId, session.hello);
        registry.setEligible(session.nodeId, eligible);
        return;
      } catch (err) {
        log.warn({ err, node: session.nodeId }, 'node_not_recorded');
        await sleep(backoff.next());
      }
    }
  }

  async #touch(): Promise<void> {
    const { registry, store, log } = this.options;
    const heardOf = [...registry.sessions()].filter((session) => session.silentMs < TOUCH_INTERVAL_MS);
    if (heardOf.length === 0) return;
    try {
      await store.touch(heardOf.map((session) => session.nodeId));
    } catch (err) {
      log.warn({ err }, 'nodes_not_touched');
    }
  }
}
