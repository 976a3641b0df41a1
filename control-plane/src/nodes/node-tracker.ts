import { setTimeout as sleep } from 'node:timers/promises';
import { Backoff } from '@lambda-fleet/common/backoff';
import type { Logger } from '@lambda-fleet/common/logger';
import type { NodeRegistry } from './node-registry.js';
import type { NodeSession } from './node-session.js';
import type { NodeStore } from './node-store.js';

export interface NodeTrackerOptions {
  readonly registry: NodeRegistry;
  readonly store: NodeStore;
  /** A node is known to the database. */
  readonly onRecorded: () => void;
  readonly log: Logger;
}

/**
 * Keeps what PostgreSQL says of nodes and what this process knows of them together:
 * who connected, and whom an operator took out of service.
 */
export class NodeTracker {
  constructor(private readonly options: NodeTrackerOptions) {}

  /** Records the node behind the link's back: a node serves even while the database is away. */
  welcomed(session: NodeSession): void {
    void this.#record(session);
  }

  async #record(session: NodeSession): Promise<void> {
    const { registry, store, onRecorded, log } = this.options;
    const backoff = new Backoff({ firstMs: 200, capMs: 5_000 });
    while (!session.closed) {
      try {
        const { eligible } = await store.recordHello(session.nodeId, session.hello);
        registry.setEligible(session.nodeId, eligible);
        onRecorded();
        return;
      } catch (err) {
        log.warn({ err, node: session.nodeId }, 'node_not_recorded');
        await sleep(backoff.next());
      }
    }
  }
}
