import type { Duplex } from 'node:stream';
import type { RuntimeName } from '@lambda-fleet/common/runtime-names';
import { Conversation } from './conversation.js';
import type { RuntimeConversation } from './runtime-conversation.js';

const HELLO_DEADLINE_MS = 10_000;
const PING_INTERVAL_MS = 10_000;

/** Begins the conversation that a sandbox of this runtime understands. */
export function startConversation(_runtime: RuntimeName, stream: Duplex, nonce: string): RuntimeConversation {
  return new Conversation({ stream, nonce, helloDeadlineMs: HELLO_DEADLINE_MS, pingIntervalMs: PING_INTERVAL_MS });
}
