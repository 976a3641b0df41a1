import { Backoff } from '@lambda-fleet/common/backoff';
import type { Logger } from '@lambda-fleet/common/logger';
import { BlankDemand } from './blank-demand.js';
import type { Sandbox } from './sandbox.js';
import { kindKey, type SandboxKind } from './sandbox-kind.js';
import { isEnding } from './sandbox-states.js';

export interface BlankStockOptions {
  /** Blanks at the same time; 0 keeps none. */
  readonly max: number;
  /** Kinds that were wanted before the agent started. */
  readonly remembered: readonly SandboxKind[];
  /** A kind is wanted that was not before. */
  readonly onNewKind: (kinds: readonly SandboxKind[]) => void;
  /** A new blank in `creating`, or undefined when the node has no room to spare for one. Gives nothing up for it. */
  readonly create: (kind: SandboxKind) => Sandbox | undefined;
  readonly boot: (blank: Sandbox) => Promise<unknown>;
  readonly log: Logger;
}

/** After a blank was taken: the start that took it comes first. */
const REFILL_DELAY_MS = 50;
/** After blanks had to be given up, or there was no room for one. */
const NO_ROOM_PAUSE_MS = 5_000;

/**
 * The blanks of a node: sandboxes that are booted before anybody needs them, of the kinds that its functions have been
 * asking for.
 *
 * One is booted at a time, in the background: starting containers is the most expensive thing a node does, and whoever waits for
 * a sandbox goes first. States of the refilling: resting (all there) → waiting (a timer) → booting (one blank) →
 * resting or waiting.
 */
export class BlankStock {
  readonly #demand = new BlankDemand();
  /** Of each kind, those that are up before those that still boot. */
  readonly #blanks = new Map<string, Set<Sandbox>>();
  readonly #failures = new Map<string, { readonly backoff: Backoff; until: number }>();
  #timer: NodeJS.Timeout | undefined;
  #booting = false;
  #closed = false;

  constructor(private readonly options: BlankStockOptions) {
    for (const kind of options.remembered) this.#demand.note(kind, performance.now());
    if (options.max > 0) this.#wake(0);
  }

  /** All there are, those first that would be missed least. */
  *all(): Generator<Sandbox> {
    const targets = this.#demand.targets(this.options.max, performance.now());
    const surplus = (key: string, count: number) => count - (targets.get(key)?.count ?? 0);
    const kinds = [...this.#blanks].toSorted(([a, x], [b, y]) => surplus(b, y.size) - surplus(a, x.size));
    for (const [, blanks] of kinds) yield* blanks;
  }

  count(): number {
    let count = 0;
    for (const blanks of this.#blanks.values()) count += blanks.size;
    return count;
  }

  /** Blanks that are up, by kind. */
  *ready(): Generator<{ readonly kind: SandboxKind; readonly count: number }> {
    for (const blanks of this.#blanks.values()) {
      const [first] = blanks;
      const count = [...blanks].filter(({ state }) => state === 'blank').length;
      if (first !== undefined && count > 0) yield { kind: first.kind, count };
    }
  }

  /** A sandbox of this kind is needed: remembers that, and names a blank for it, if possible one that is up. */
  want(kind: SandboxKind): Sandbox | undefined {
    if (this.options.max === 0) return undefined;
    if (this.#demand.note(kind, performance.now())) this.options.onNewKind(this.#demand.kinds(performance.now()));
    this.#wake(REFILL_DELAY_MS);
    const blanks = this.#blanks.get(kindKey(kind));
    if (blanks === undefined) return undefined;
    for (const blank of blanks) if (blank.state === 'blank') return blank;
    return blanks.values().next().value;
  }

  /** It is no blank any more: given to a version, or ending. */
  remove(blank: Sandbox): void {
    const key = kindKey(blank.kind);
    const blanks = this.#blanks.get(key);
    if (blanks?.delete(blank) !== true) return;
    if (blanks.size === 0) this.#blanks.delete(key);
    this.#wake(REFILL_DELAY_MS);
  }

  /** Blanks were given up for something else: no new ones for a while. */
  pressed(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#wake(NO_ROOM_PAUSE_MS);
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
  }

  #wake(delayMs: number): void {
    if (this.#closed || this.#booting || this.#timer !== undefined) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      void this.#refill();
    }, delayMs);
    this.#timer.unref();
  }

  async #refill(): Promise<void> {
    const now = performance.now();
    const targets = [...this.#demand.targets(this.options.max, now).values()];
    const missing = targets.filter(({ kind, count }) => (this.#blanks.get(kindKey(kind))?.size ?? 0) < count);
    const due = missing.find(({ kind }) => (this.#failures.get(kindKey(kind))?.until ?? 0) <= now);
    if (due === undefined) {
      if (missing.length > 0) this.#wake(NO_ROOM_PAUSE_MS);
      return;
    }
    if (this.count() >= this.options.max) {
      // Demand has moved on.
      const [surplus] = this.all();
      surplus?.stop('evicted');
    }
    const blank = this.options.create(due.kind);
    if (blank === undefined) {
      this.#wake(NO_ROOM_PAUSE_MS);
      return;
    }
    this.#booting = true;
    await this.#boot(blank);
    this.#booting = false;
    this.#wake(0);
  }

  async #boot(blank: Sandbox): Promise<void> {
    const key = kindKey(blank.kind);
    const blanks = this.#blanks.get(key) ?? new Set();
    this.#blanks.set(key, blanks.add(blank));
    try {
      await this.options.boot(blank);
      this.#failures.delete(key);
    } catch (err) {
      // Taken or given up meanwhile: whoever did that knows.
      if (!blanks.has(blank) && isEnding(blank.state)) return;
      const failure = this.#failures.get(key) ?? { backoff: new Backoff({ firstMs: 1_000, capMs: 60_000 }), until: 0 };
      failure.until = performance.now() + failure.backoff.next();
      this.#failures.set(key, failure);
      this.options.log.warn({ err, kind: key }, 'blank_not_started');
    }
  }
}
