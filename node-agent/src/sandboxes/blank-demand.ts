import { kindKey, type SandboxKind } from './sandbox-kind.js';

interface Wanted {
  readonly kind: SandboxKind;
  /** Sandboxes of this kind that were asked for, an old one counting less: halved every {@link HALF_LIFE_MS}. */
  score: number;
  scoredAt: number;
}

const HALF_LIFE_MS = 10 * 60 * 1000;
/** Below, a kind is forgotten: asked for once, that is after two hours. */
const SCORE_MIN = 1 / 4096;
/** More kinds are not remembered. */
const KINDS_MAX = 64;

/**
 * Which kinds of sandboxes functions of this node have been asking for, and how many blanks of each to keep. Pure but for
 * what it remembers; times are milliseconds of one clock, given by the caller.
 */
export class BlankDemand {
  readonly #wanted = new Map<string, Wanted>();

  /** True when the kind is new. */
  note(kind: SandboxKind, now: number): boolean {
    const key = kindKey(kind);
    const wanted = this.#wanted.get(key);
    if (wanted !== undefined) {
      wanted.score = scoreAt(wanted, now) + 1;
      wanted.scoredAt = now;
      return false;
    }
    this.#wanted.set(key, { kind, score: 1, scoredAt: now });
    if (this.#wanted.size > KINDS_MAX) this.#forgetLeast(now);
    return true;
  }

  /**
   * How many blanks of each kind to keep, `max` in all: one of each, most wanted kinds first, and what is left in
   * proportion to how much each is wanted.
   */
  targets(max: number, now: number): ReadonlyMap<string, { readonly kind: SandboxKind; readonly count: number }> {
    this.#forget(now);
    const ranked = [...this.#wanted.values()]
      .map((wanted) => ({ kind: wanted.kind, score: scoreAt(wanted, now), count: 0 }))
      .toSorted((a, b) => b.score - a.score)
      .slice(0, max);
    for (const kind of ranked) kind.count = 1;
    for (let left = max - ranked.length; left > 0 && ranked.length > 0; left -= 1) {
      // The one whose present share is the smallest for its score.
      const [next] = ranked.toSorted((a, b) => b.score / (b.count + 1) - a.score / (a.count + 1));
      if (next !== undefined) next.count += 1;
    }
    return new Map(ranked.map(({ kind, count }) => [kindKey(kind), { kind, count }]));
  }

  /** What to remember over a restart, most wanted first. */
  kinds(now: number): readonly SandboxKind[] {
    this.#forget(now);
    return [...this.#wanted.values()].toSorted((a, b) => scoreAt(b, now) - scoreAt(a, now)).map(({ kind }) => kind);
  }

  #forget(now: number): void {
    for (const [key, wanted] of this.#wanted) if (scoreAt(wanted, now) < SCORE_MIN) this.#wanted.delete(key);
  }

  #forgetLeast(now: number): void {
    const [least] = [...this.#wanted].toSorted(([, a], [, b]) => scoreAt(a, now) - scoreAt(b, now));
    if (least !== undefined) this.#wanted.delete(least[0]);
  }
}

function scoreAt({ score, scoredAt }: Wanted, now: number): number {
  return score * 2 ** ((scoredAt - now) / HALF_LIFE_MS);
}
