import type { ClusterView } from './cluster-view.js';

/** What `auto` means: gVisor wherever an eligible node has it, or runc always. */
export const ISOLATION_POLICIES = ['gvisor', 'runc'] as const;
export type IsolationPolicyName = (typeof ISOLATION_POLICIES)[number];

/** How long an answer is good for when nobody says that a node came or changed. */
const BELIEVED_MS = 100;

/**
 * Decides what isolates an invocation.
 *
 * A function that names an isolation gets it or does not run. `auto` is gVisor where the policy says so and some eligible node has
 * it, else runc, and on a fleet of plain processes, which exists in development only, none.
 */
export class IsolationPolicy {
  #automatic = 'runc';
  #decidedAt = Number.NEGATIVE_INFINITY;

  constructor(
    private readonly policy: IsolationPolicyName,
    private readonly view: ClusterView,
  ) {}

  /** `now` is `performance.now()`. */
  isolationOf(asked: string, now: number): string {
    if (asked !== 'auto') return asked;
    if (now - this.#decidedAt >= BELIEVED_MS) {
      this.#automatic = this.#decide();
      this.#decidedAt = now;
    }
    return this.#automatic;
  }

  /** A node came or changed: what it offers counts from now on. */
  nodesChanged(): void {
    this.#decidedAt = Number.NEGATIVE_INFINITY;
  }

  #decide(): string {
    const { policy, view } = this;
    if (policy === 'gvisor' && view.withIsolation('gvisor') > 0) return 'gvisor';
    return view.withIsolation('runc') > 0 || view.withIsolation('none') === 0 ? 'runc' : 'none';
  }
}
