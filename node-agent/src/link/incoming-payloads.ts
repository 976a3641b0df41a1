import { PAYLOAD_BYTES_MAX } from '@lambda-fleet/common/limits';
import type { Invoke, PayloadChunk } from '@lambda-fleet/proto';

interface Incoming {
  invoke: Invoke | undefined;
  cancelled: boolean;
  readonly chunks: Buffer[];
  bytes: number;
}

/** Payloads that may be incomplete at once; more is not a control plane that behaves. */
const INCOMPLETE_MAX = 1_000;

/**
 * Puts streamed payloads together. The Invoke and its chunks travel on different
 * connections, so either may come first.
 *
 * Throws when the peer breaks the rules; the session then has to end.
 */
export class IncomingPayloads {
  readonly #incoming = new Map<string, Incoming>();

  constructor(
    private readonly onComplete: (invoke: Invoke, payload: Buffer) => void,
    private readonly onCancelled: (invoke: Invoke) => void,
  ) {}

  expect(invoke: Invoke): void {
    if (invoke.payloadBytes > PAYLOAD_BYTES_MAX)
      throw new Error(`a payload of ${invoke.payloadBytes} bytes was announced`);
    const incoming = this.#of(invoke.invocationId);
    incoming.invoke = invoke;
    this.#completeIfWhole(invoke.invocationId, incoming);
  }

  add(chunk: PayloadChunk): void {
    const incoming = this.#of(chunk.invocationId);
    if (!incoming.cancelled) incoming.chunks.push(chunk.data as Buffer);
    incoming.bytes += chunk.data.length;
    if (incoming.bytes > PAYLOAD_BYTES_MAX) throw new Error('a payload is longer than any payload may be');
    this.#completeIfWhole(chunk.invocationId, incoming);
  }

  /** True when its payload is incomplete: once the rest has arrived, it is told as cancelled. The bytes are dropped now. */
  cancel(invocationId: string): boolean {
    const incoming = this.#incoming.get(invocationId);
    if (incoming === undefined) return false;
    incoming.cancelled = true;
    incoming.chunks.length = 0;
    return true;
  }

  /** The session is over: nobody waits for what is incomplete. */
  clear(): void {
    this.#incoming.clear();
  }

  #of(invocationId: string): Incoming {
    let incoming = this.#incoming.get(invocationId);
    if (incoming === undefined) {
      if (this.#incoming.size >= INCOMPLETE_MAX) throw new Error('too many incomplete payloads');
      incoming = { invoke: undefined, cancelled: false, chunks: [], bytes: 0 };
      this.#incoming.set(invocationId, incoming);
    }
    return incoming;
  }

  #completeIfWhole(invocationId: string, incoming: Incoming): void {
    const { invoke, cancelled, chunks, bytes } = incoming;
    if (invoke === undefined || bytes < invoke.payloadBytes) return;
    if (bytes > invoke.payloadBytes) throw new Error('a payload is longer than announced');
    this.#incoming.delete(invocationId);
    if (cancelled) this.onCancelled(invoke);
    else this.onComplete(invoke, Buffer.concat(chunks, bytes));
  }
}
