import { setTimeout as sleep } from 'node:timers/promises';
import { Backoff } from '@lambda-fleet/common/backoff';
import type { Logger } from '@lambda-fleet/common/logger';
import type { SelfTestCheck } from '@lambda-fleet/proto';
import type { NodeEvents } from './node-events.js';
import type { NodeSession } from './node-session.js';
import type { NodeStore } from './node-store.js';

export interface NodeTrackerOptions {
  readonly store: NodeStore;
  readonly events: NodeEvents;
  /** A node is known to the database. */
  readonly onRecorded: () => void;
  readonly log: Logger;
}

/** Tells PostgreSQL what this process knows of nodes: who connected, who leaves and who is gone. */
export class NodeTracker {
  #closed = false;

  constructor(private readonly options: NodeTrackerOptions) {}

  /** Records the node behind the link's back: a node serves even while the database is away. */
  welcomed(session: NodeSession): void {
    void this.#record(session);
  }

  /** Its agent is being stopped. */
  leaving({ nodeId }: NodeSession, boundMs: number): void {
    void this.#note(nodeId, 'leaving', { boundMs });
  }

  /** Its agent has tried what it offers. It says so again after its next Hello, so once is enough. */
  selfTested({ nodeId }: NodeSession, checks: readonly SelfTestCheck[]): void {
    this.options.store.recordSelfTest(nodeId, checks).catch((err: unknown) => {
      this.options.log.warn({ err, node: nodeId }, 'self_test_not_recorded');
    });
  }

  disconnected({ nodeId }: NodeSession, reason: string): void {
    void this.#note(nodeId, 'disconnected', { reason });
  }

  close(): void {
    this.#closed = true;
  }

  async #record(session: NodeSession): Promise<void> {
    const { store, onRecorded, log } = this.options;
    const backoff = new Backoff({ firstMs: 200, capMs: 5_000 });
    while (!session.closed) {
      try {
        await store.recordHello(session.nodeId, session.hello);
        onRecorded();
        return;
      } catch (err) {
        log.warn({ err, node: session.nodeId }, 'node_not_recorded');
        await sleep(backoff.next());
      }
    }
  }

  /** History only: what could not be written is not tried again. */
  async #note(...[nodeId, kind, detail]: Parameters<NodeEvents['record']>): Promise<void> {
    if (this.#closed) return;
    try {
      await this.options.events.record(nodeId, kind, detail);
    } catch (err) {
      this.options.log.warn({ err, node: nodeId, kind }, 'node_event_not_recorded');
    }
  }
}
