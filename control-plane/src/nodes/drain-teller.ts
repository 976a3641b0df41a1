import type { NodeDecisions } from './node-decisions.js';
import type { NodeRegistry } from './node-registry.js';
import type { NodeSession } from './node-session.js';

interface Told {
  readonly drainId: string;
  readonly deadlineAt: number | undefined;
}

/** Tells agents that their nodes drain, and when that is over: once per session, and again when the deadline was changed. */
export class DrainTeller {
  readonly #told = new WeakMap<NodeSession, Told>();

  constructor(
    private readonly decisions: Pick<NodeDecisions, 'of'>,
    private readonly registry: Pick<NodeRegistry, 'sessions'>,
  ) {}

  /** Decisions have changed. */
  tellAll(): void {
    for (const session of this.registry.sessions()) this.tell(session);
  }

  /** A node is connected, or decisions have changed. */
  tell(session: NodeSession): void {
    const drain = this.decisions.of(session.nodeId)?.drain;
    const told = this.#told.get(session);
    if (drain?.state === 'draining') {
      const deadlineAt = drain.deadlineAt?.getTime();
      if (told?.drainId === drain.id && told.deadlineAt === deadlineAt) return;
      this.#told.set(session, { drainId: drain.id, deadlineAt });
      const leftMs = drain.deadline === undefined ? undefined : drain.deadline - performance.now();
      session.drain({
        drainId: drain.id,
        deadlineMs: leftMs === undefined ? undefined : Math.max(0, Math.ceil(leftMs)),
        cancelled: false,
      });
      return;
    }
    // A node whose drain is complete stays empty until somebody undrains it.
    if (told === undefined || (drain?.id === told.drainId && drain.state === 'complete')) return;
    this.#told.delete(session);
    session.drain({ drainId: told.drainId, deadlineMs: undefined, cancelled: true });
  }
}
