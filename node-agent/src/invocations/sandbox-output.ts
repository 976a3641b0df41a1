import type { LogMessage } from '../channel/runtime-messages.js';
import type { OutputStream } from '../drivers/raw-output.js';
import type { SandboxListener } from '../sandboxes/sandbox-listener.js';
import type { InvocationLog } from './invocation-log.js';

interface Entry {
  readonly id: string;
  readonly log: InvocationLog;
  ended: boolean;
}

/**
 * Gives what a sandbox writes to the invocation it belongs to: the one that a line names, as long as it runs or was the
 * last to end; else the one that began last. A sandbox can name no others, so it cannot write into a stranger's log.
 */
export class SandboxOutput implements SandboxListener {
  /** In the order in which they began: those that run, and the last one that ended. */
  #entries: Entry[] = [];

  constructor(
    /** Invocations at a time. */
    private readonly concurrency: number,
  ) {}

  /** From now on output belongs to this invocation, unless it names another. */
  begin(id: string, log: InvocationLog): void {
    const ended = this.#entries.filter((entry) => entry.ended);
    // What came after its end and has no line end yet.
    for (const entry of ended) entry.log.finish();
    const kept = ended.at(-1);
    this.#entries = this.#entries.filter((entry) => !entry.ended || entry === kept);
    this.#entries.push({ id, log, ended: false });
  }

  end(id: string): void {
    const entry = this.#entries.find((candidate) => candidate.id === id);
    if (entry !== undefined) entry.ended = true;
  }

  wantsLog(bytes: number): boolean {
    // Whose line it is stands in its meta, so with several running it has to be read first.
    return this.concurrency > 1 || (this.#entries.at(-1)?.log.admit(bytes) ?? false);
  }

  log(message: LogMessage, text: Buffer): boolean {
    const named = message.id === undefined ? undefined : this.#entries.find((entry) => entry.id === message.id);
    const entry = named ?? this.#entries.at(-1);
    if (entry === undefined || (this.concurrency > 1 && !entry.log.admit(text.length))) return false;
    entry.log.line(message, text);
    return true;
  }

  raw(stream: OutputStream, bytes: Buffer): number {
    return this.#entries.at(-1)?.log.raw(stream, bytes) ?? 0;
  }
}
