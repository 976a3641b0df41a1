import type { LogMessage } from '../channel/runtime-messages.js';
import type { OutputStream } from '../drivers/output-tap.js';
import type { SandboxListener } from '../sandboxes/sandbox.js';
import type { InvocationLog } from './invocation-log.js';

/**
 * Gives what a sandbox writes to the invocation it belongs to: the running one, or the one before when a line names it or
 * nothing runs. A sandbox can name no others, so it cannot write into a stranger's log.
 */
export class SandboxOutput implements SandboxListener {
  #current: { readonly id: string; readonly log: InvocationLog } | undefined;
  #previous: { readonly id: string; readonly log: InvocationLog } | undefined;

  /** From now on output belongs to this invocation. */
  begin(id: string, log: InvocationLog): void {
    // What came after its end and has no line end yet.
    this.#current?.log.finish();
    this.#previous = this.#current;
    this.#current = { id, log };
  }

  wantsLog(bytes: number): boolean {
    return this.#current?.log.admit(bytes) ?? false;
  }

  log(message: LogMessage, text: Buffer): void {
    const previous = message.id !== undefined && message.id === this.#previous?.id;
    (previous ? this.#previous : this.#current)?.log.line(message, text);
  }

  raw(stream: OutputStream, bytes: Buffer): void {
    this.#current?.log.raw(stream, bytes);
  }
}
