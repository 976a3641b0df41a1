import type { Duplex } from 'node:stream';
import { type RuntimeName, runtimeFamily } from '@lambda-fleet/common/runtime-names';
import type { ImageSpec } from '@lambda-fleet/proto';
import { imageProgram } from '../runtime-api/image-program.js';
import { PortConversation } from '../runtime-api/port-conversation.js';
import { bootstrapProgram } from '../runtime-api/program.js';
import { ProgramConversation } from '../runtime-api/program-conversation.js';
import { Conversation, type InitMessage } from './conversation.js';
import type { RuntimeConversation } from './runtime-conversation.js';

export interface ConversationStart {
  readonly runtime: RuntimeName;
  readonly stream: Duplex;
  readonly nonce: string;
  /** Where the code stands as the sandbox sees it. */
  readonly taskRoot: string;
  /** Of the runtime `image`. */
  readonly image?: ImageSpec | undefined;
}

const HELLO_DEADLINE_MS = 10_000;
const PING_INTERVAL_MS = 10_000;

/** Begins the conversation that a sandbox of this runtime understands. */
export function startConversation({ runtime, stream, nonce, taskRoot, image }: ConversationStart): RuntimeConversation {
  const channel = { stream, nonce, helloDeadlineMs: HELLO_DEADLINE_MS, pingIntervalMs: PING_INTERVAL_MS };
  if (image !== undefined) {
    const programOf = (message: InitMessage) => imageProgram(message, image);
    return image.port === 0
      ? new ProgramConversation({ ...channel, programOf })
      : new PortConversation({ ...channel, programOf, port: image.port });
  }
  if (runtimeFamily(runtime) !== 'provided') return new Conversation(channel);
  return new ProgramConversation({ ...channel, programOf: (message) => bootstrapProgram(message, taskRoot) });
}
