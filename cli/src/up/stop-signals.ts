const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/**
 * A Ctrl-C in a terminal goes to every process of its group, and npm passes it on
 * to us once more: what follows this closely is the same key press, not impatience.
 */
const SAME_REQUEST_MS = 1_000;

/** Turns signals into one request to stop, and a later one into `killNow`. */
export class StopSignals {
  readonly requested: Promise<NodeJS.Signals>;
  #firstAt: number | undefined;
  #settle: ((signal: NodeJS.Signals) => void) | undefined;

  constructor(private readonly killNow: (signal: NodeJS.Signals) => void) {
    this.requested = new Promise((settle) => {
      this.#settle = settle;
    });
    for (const signal of SIGNALS) process.on(signal, this.#onSignal);
  }

  dispose(): void {
    for (const signal of SIGNALS) process.off(signal, this.#onSignal);
  }

  readonly #onSignal = (signal: NodeJS.Signals): void => {
    if (this.#firstAt === undefined) {
      this.#firstAt = performance.now();
      this.#settle?.(signal);
    } else if (performance.now() - this.#firstAt > SAME_REQUEST_MS) {
      this.killNow(signal);
    }
  };
}
