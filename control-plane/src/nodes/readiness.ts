import { withDeadline } from '@lambda-fleet/common/deadline';
import type { Database } from '../db/database.js';
import type { NodeRegistry } from './node-registry.js';

export interface ReadinessState {
  readonly ready: boolean;
  /** It is being stopped: it answers, and wants no more requests. */
  readonly leaving: boolean;
  readonly waitingFor: readonly ('database' | 'nodes')[];
}

const DATABASE_DEADLINE_MS = 1_500;

/** Whether this control plane can do its work: the database answers and a node takes invocations. */
export class Readiness {
  #leaving = false;

  constructor(
    private readonly database: Database,
    private readonly registry: NodeRegistry,
  ) {}

  /** Load balancers are to look elsewhere from now on. */
  leave(): void {
    this.#leaving = true;
  }

  /** Never rejects. */
  async check(): Promise<ReadinessState> {
    const waitingFor: ('database' | 'nodes')[] = [];
    if (!(await this.#databaseAnswers())) waitingFor.push('database');
    if (!this.registry.list().some((node) => node.eligible)) waitingFor.push('nodes');
    return { ready: waitingFor.length === 0 && !this.#leaving, leaving: this.#leaving, waitingFor };
  }

  async #databaseAnswers(): Promise<boolean> {
    try {
      const answer = this.database.run('readiness', (sql) => sql`SELECT 1`);
      await withDeadline('readiness', DATABASE_DEADLINE_MS, answer);
      return true;
    } catch {
      // Why is in the log already; here it only matters that it does not answer.
      return false;
    }
  }
}
