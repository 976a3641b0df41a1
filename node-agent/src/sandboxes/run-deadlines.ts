/** A run that is given up while others go on in its sandbox, which therefore cannot be killed yet. */
export class RunAbandoned extends Error {
  override readonly name = 'RunAbandoned';

  constructor(readonly reason: 'deadline' | 'cancelled') {
    super(`the run was given up (${reason})`);
  }
}

/**
 * The deadlines of the invocations that run in one sandbox.
 *
 * A sandbox of one invocation at a time has one timer for its whole life, moved forward by each run: it can only fire
 * `timeoutMs` after the start of the newest one, so while that runs it means that its time is over, and else nothing. With
 * several at a time each has its own, and a way to be given up alone.
 */
export class RunDeadlines {
  #only: NodeJS.Timeout | undefined;
  #onlyId = '';
  readonly #several = new Map<string, { timer: NodeJS.Timeout; readonly reject: (reason: RunAbandoned) => void }>();

  constructor(
    private readonly timeoutMs: number,
    private readonly concurrency: number,
    private readonly onOver: (id: string) => void,
  ) {}

  /** Starts the clock of a run, or starts it again: the time of a large event counts from its last byte. */
  arm(id: string): void {
    if (this.concurrency === 1) {
      this.#onlyId = id;
      if (this.#only === undefined) this.#only = setTimeout(() => this.onOver(this.#onlyId), this.timeoutMs);
      else this.#only.refresh();
      return;
    }
    this.#several.get(id)?.timer.refresh();
  }

  /** The result of a run; rejects with {@link RunAbandoned} when it is given up first. */
  async race<T>(id: string, result: Promise<T>): Promise<T> {
    if (this.concurrency === 1) return result;
    const abandoned = new Promise<never>((_, reject) => {
      this.#several.set(id, { timer: setTimeout(() => this.onOver(id), this.timeoutMs), reject });
    });
    try {
      return await Promise.race([result, abandoned]);
    } finally {
      clearTimeout(this.#several.get(id)?.timer);
      this.#several.delete(id);
    }
  }

  abandon(id: string, reason: 'deadline' | 'cancelled'): void {
    this.#several.get(id)?.reject(new RunAbandoned(reason));
  }

  clear(): void {
    clearTimeout(this.#only);
    for (const { timer } of this.#several.values()) clearTimeout(timer);
  }
}
