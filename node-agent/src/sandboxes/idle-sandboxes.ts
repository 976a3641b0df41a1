import type { Sandbox } from './sandbox.js';

/**
 * Sandboxes that can be given work, found by what they are for, and those that are idle in the order in which they became
 * so: the first is the least recently used. Kept by {@link update}, which is to be called after every change of a sandbox.
 */
export class IdleSandboxes {
  readonly #idle = new Set<Sandbox>();
  /** Of each shape, the most recently used last. */
  readonly #open = new Map<string, Sandbox[]>();

  /** Least recently used first. */
  get idle(): ReadonlySet<Sandbox> {
    return this.#idle;
  }

  /** The one that was used last, so that the others can grow old; of those that take several invocations, a busy one. */
  openOf(key: string): Sandbox | undefined {
    return this.#open.get(key)?.at(-1);
  }

  update(sandbox: Sandbox): void {
    if (sandbox.isBlank) return;
    this.#idle.delete(sandbox);
    if (sandbox.state === 'idle') this.#idle.add(sandbox);
    const { key } = sandbox;
    const siblings = this.#open.get(key);
    // Nearly always the last one.
    const at = siblings?.lastIndexOf(sandbox) ?? -1;
    if (!sandbox.open) {
      if (at === -1) return;
      siblings?.splice(at, 1);
      if (siblings?.length === 0) this.#open.delete(key);
    } else if (siblings === undefined) {
      this.#open.set(key, [sandbox]);
    } else if (at === -1) {
      siblings.push(sandbox);
    }
  }
}
