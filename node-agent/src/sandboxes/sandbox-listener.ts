import type { LogMessage } from '../channel/runtime-messages.js';
import type { OutputStream } from '../drivers/raw-output.js';

/** Receives what a sandbox writes. */
export interface SandboxListener {
  /** False drops a log line unread. */
  wantsLog(bytes: number): boolean;
  /** Whether the line was kept. */
  log(message: LogMessage, text: Buffer): boolean;
  /**
   * Output past the runtime's own logging; the engine delivers it late, even after a result.
   *
   * @returns how many lines of it were kept
   */
  raw(stream: OutputStream, bytes: Buffer): number;
}
