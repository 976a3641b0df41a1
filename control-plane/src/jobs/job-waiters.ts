/** Who waits for jobs to finish, so that a client need not ask again and again. */
export class JobWaiters {
  readonly #waiting = new Map<string, Set<() => void>>();
  #closed = false;

  get closed(): boolean {
    return this.#closed;
  }

  /** To be called after the commit. */
  finished(jobId: string): void {
    for (const wake of this.#waiting.get(jobId) ?? []) wake();
  }

  /** Ends all waiting, for a server that stops. */
  close(): void {
    this.#closed = true;
    for (const jobId of this.#waiting.keys()) this.finished(jobId);
  }

  /**
   * Begins to wait at once. `until` resolves when the job has finished, after `ms`, or when `gone` aborts; `end` has
   * to be called in any case.
   */
  wait(jobId: string, ms: number, gone: AbortSignal): { readonly until: Promise<void>; readonly end: () => void } {
    let wake = (): void => {};
    const until = new Promise<void>((resolve) => {
      wake = resolve;
    });
    const timer = setTimeout(wake, ms);
    const waiters = this.#waiting.get(jobId) ?? new Set();
    this.#waiting.set(jobId, waiters.add(wake));
    gone.addEventListener('abort', wake, { once: true });
    if (this.#closed || gone.aborted) wake();
    return {
      until,
      end: () => {
        clearTimeout(timer);
        gone.removeEventListener('abort', wake);
        waiters.delete(wake);
        if (waiters.size === 0 && this.#waiting.get(jobId) === waiters) this.#waiting.delete(jobId);
      },
    };
  }
}
