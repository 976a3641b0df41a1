import type { StoredLogLine } from './log-line.js';

type Hear = (lines: readonly StoredLogLine[]) => void;

/** Committed log lines, from the log writer to whoever follows a function in this process. */
export class LogFeed {
  readonly #followers = new Map<string, Set<Hear>>();

  /** To be called after the commit, in the order of ids. Never throws. */
  publish(lines: readonly StoredLogLine[]): void {
    if (this.#followers.size === 0) return;
    const byFunction = new Map<string, StoredLogLine[]>();
    for (const line of lines) {
      if (!this.#followers.has(line.functionId)) continue;
      const group = byFunction.get(line.functionId);
      if (group === undefined) byFunction.set(line.functionId, [line]);
      else group.push(line);
    }
    for (const [functionId, group] of byFunction) {
      for (const hear of this.#followers.get(functionId) ?? []) hear(group);
    }
  }

  /** Returns what ends the following. */
  follow(functionId: string, hear: Hear): () => void {
    const followers = this.#followers.get(functionId) ?? new Set();
    this.#followers.set(functionId, followers.add(hear));
    return () => {
      followers.delete(hear);
      if (followers.size === 0) this.#followers.delete(functionId);
    };
  }
}
