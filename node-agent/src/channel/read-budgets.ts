import { ReadBudget, type ReadLimits } from './read-budget.js';
import { type Pausable, ReadGate } from './read-gate.js';

/**
 * Lines that are kept cost the agent, the control plane and its database 60 µs together: a sixth of a processor. With 5,000 a
 * second, one call in a hundred of a neighbour took 60 ms on two processors, and with this 40.
 */
export const KEPT_LINE_LIMITS: ReadLimits = { perSecond: 2_500, burst: 1_000 };

/** Several {@link ReadBudget}s of one source, which stops while one of them is used up. */
export class ReadBudgets<What extends string> {
  readonly #budgets: Readonly<Record<What, ReadBudget>>;

  constructor(source: Pausable, limits: Readonly<Record<What, ReadLimits>>) {
    const gate = new ReadGate(source);
    const budgets = Object.entries<ReadLimits>(limits).map(([what, limit]) => [
      what,
      new ReadBudget({ ...limit, pause: () => gate.hold(what), resume: () => gate.release(what) }),
    ]);
    this.#budgets = Object.fromEntries(budgets) as Record<What, ReadBudget>;
  }

  spend(what: What, amount: number): void {
    this.#budgets[what].spend(amount);
  }

  /** No limits from now on; see {@link ReadBudget.lift}. */
  lift(): void {
    for (const budget of Object.values<ReadBudget>(this.#budgets)) budget.lift();
  }
}
