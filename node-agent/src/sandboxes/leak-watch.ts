import type { Logger } from '@lambda-fleet/common/logger';
import type { SandboxDriver } from '../drivers/sandbox-driver.js';

export interface LeakWatchOptions {
  readonly driver: Pick<SandboxDriver, 'find'>;
  /** Whether a sandbox belongs to somebody: from before it is started until nothing is left of it. */
  readonly knows: (sandboxId: string) => boolean;
  /** Told the number of strangers after each look. */
  readonly onStrangers: (count: number) => void;
  readonly log: Logger;
  /** Between two looks. */
  readonly intervalMs: number;
}

/**
 * Looks for sandboxes of this agent that belong to nobody: containers, or processes, that a fault left behind.
 *
 * A stranger is counted when it is first seen and removed when it is seen again at the next look. One that is just being
 * started is known before it exists, and one that is just being removed does not live until then. Those that the pool could not
 * remove are known to it, and it goes on trying by itself.
 */
export class LeakWatch {
  #strangers: ReadonlySet<string> = new Set();
  #looking: Promise<void> | undefined;
  readonly #timer: NodeJS.Timeout;

  constructor(private readonly options: LeakWatchOptions) {
    this.#timer = setInterval(() => void this.look(), options.intervalMs);
    this.#timer.unref();
  }

  /** One look; a call during another waits for that one. Never rejects. */
  look(): Promise<void> {
    this.#looking ??= this.#look()
      .catch((err: unknown) => this.options.log.warn({ err }, 'leak_watch_failed'))
      .finally(() => {
        this.#looking = undefined;
      });
    return this.#looking;
  }

  /** Resolves when a look that is under way has ended. */
  async close(): Promise<void> {
    clearInterval(this.#timer);
    await this.#looking;
  }

  async #look(): Promise<void> {
    const { driver, knows, onStrangers, log } = this.options;
    const strangers = (await driver.find()).filter(({ id }) => !knows(id));
    const seenBefore = this.#strangers;
    const left = new Set<string>();
    for (const stranger of strangers) {
      const { id } = stranger;
      left.add(id);
      if (!seenBefore.has(id)) {
        log.warn({ sandbox: id }, 'leaked_sandbox_found');
        continue;
      }
      try {
        await stranger.remove();
        left.delete(id);
        log.warn({ sandbox: id }, 'leaked_sandbox_removed');
      } catch (err) {
        log.error({ err, sandbox: id }, 'leaked_sandbox_not_removed');
      }
    }
    this.#strangers = left;
    onStrangers(left.size);
  }
}
