import type { CompiledFile } from './compiled-files.js';
import type { ConversationListener, InitMessage, InitResult, InvokeMessage, InvokeResult } from './conversation.js';

/**
 * What a sandbox needs of the protocol that is spoken with the program in it. {@link Conversation} speaks the channel with
 * our own runtimes.
 *
 * Every method that answers rejects with ChannelClosed when the conversation ends first.
 */
export interface RuntimeConversation {
  /** Resolves when the program has proved that it is this sandbox's own and can take code. */
  readonly hello: Promise<unknown>;
  /** At most one listener. */
  listen(listener: ConversationListener): void;
  /** Loads the code. Once. */
  init(message: InitMessage): Promise<InitResult>;
  /**
   * Compiles the code without running it, instead of `init`; only `close` may follow. Absent where programs are not compiled
   * by the platform.
   */
  compile?(): Promise<readonly CompiledFile[]>;
  /**
   * Sends one event and resolves with its result. `written` is called when all of it has been taken. As many at a time as
   * INIT's `concurrency` says.
   */
  invoke(message: InvokeMessage, event: Buffer, written: () => void): Promise<InvokeResult>;
  /** While the sandbox is frozen nothing is sent to it that needs no answer. */
  setFrozen(frozen: boolean): void;
  close(): void;
}
