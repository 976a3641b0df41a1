import type { LogMessage } from '../channel/runtime-messages.js';
import type { OutputStream } from '../drivers/output-tap.js';

/** Receives what a sandbox writes. */
export interface SandboxListener {
  /** False drops a log line unread. */
  wantsLog(bytes: number): boolean;
  log(message: LogMessage, text: Buffer): void;
  /** Output past the runtime's own logging; the engine delivers it late, even after a result. */
  raw(stream: OutputStream, bytes: Buffer): void;
}
