import { setTimeout as sleep } from 'node:timers/promises';
import { Backoff } from '@lambda-fleet/common/backoff';
import type { Logger } from '@lambda-fleet/common/logger';
import type { SelfTestCheck } from '@lambda-fleet/proto';
import type { NodeEvents } from './node-events.js';
import type { NodeSession } from './node-session.js';
import type { NodeStore } from './node-store.js';

const SELF_TEST_EVERY_MS = 1_000;

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
  /** The newest report of those whose reports are being written. */
  readonly #tested = new WeakMap<NodeSession, readonly SelfTestCheck[]>();

  constructor(private readonly options: NodeTrackerOptions) {}

  /** Records the node behind the link's back: a node serves even while the database is away. */
  welcomed(session: NodeSession): void {
    void this.#record(session);
  }

  /** Its agent is being stopped. */
  leaving({ nodeId }: NodeSession, boundMs: number): void {
    void this.#note(nodeId, 'leaving', { boundMs });
  }

  /** Its agent has tried what it offers. Of what it says in quick succession only the newest is written. */
  selfTested(session: NodeSession, checks: readonly SelfTestCheck[]): void {
    const isWritten = this.#tested.has(session);
    this.#tested.set(session, checks);
    if (!isWritten) void this.#writeSelfTest(session);
  }

  disconnected({ nodeId }: NodeSession, reason: string): void {
    void this.#note(nodeId, 'disconnected', { reason });
  }

  close(): void {
    this.#closed = true;
  }

  /** What could not be written is said again after the next Hello. */
  async #writeSelfTest(session: NodeSession): Promise<void> {
    const { store, log } = this.options;
    let written: readonly SelfTestCheck[] | undefined;
    for (;;) {
      const checks = this.#tested.get(session);
      if (checks === undefined || checks === written || session.closed || this.#closed) break;
      written = checks;
      try {
        await store.recordSelfTest(session.nodeId, checks);
      } catch (err) {
        log.warn({ err, node: session.nodeId }, 'self_test_not_recorded');
      }
      await sleep(SELF_TEST_EVERY_MS, undefined, { ref: false });
    }
    this.#tested.delete(session);
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
