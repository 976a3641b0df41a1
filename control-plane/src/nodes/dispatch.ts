import type { InvokeKind, RefusalReason, ResponseEnd } from '@lambda-fleet/proto';

/** What a node is told of one invocation, besides the version it is of. */
export interface DispatchRequest {
  readonly id: string;
  readonly kind: InvokeKind;
  readonly trigger: string;
  readonly payload: Buffer;
  readonly traceId: string;
  readonly clientContext: string;
  readonly singleUse: boolean;
}

/** What a node made of one dispatched invocation. */
export type DispatchAnswer =
  /** It ran, or the agent attests that it did not start. `body` is whole, streamed or not. */
  | { readonly kind: 'ended'; readonly end: ResponseEnd; readonly body: Buffer }
  /** The agent attests that no byte of the payload entered a sandbox: another node may be tried. */
  | { readonly kind: 'refused'; readonly reason: RefusalReason; readonly detail: string }
  /** Nothing was sent: another node may be tried. */
  | { readonly kind: 'unsent' }
  /** It was sent and nobody can tell what became of it. It must not be sent again. */
  | { readonly kind: 'lost'; readonly detail: string };

/**
 * One invocation between being sent to a node and its answer, with the chunks of
 * its response that have arrived.
 *
 * The end and the last chunk travel on different connections and may arrive in
 * either order: the dispatch is answered when both are there.
 */
export class Dispatch {
  readonly #chunks: Buffer[] = [];
  #chunkBytes = 0;
  #end: ResponseEnd | undefined;

  constructor(
    readonly invocationId: string,
    readonly epoch: number,
    readonly versionId: string,
    /** Whether the sandbox that answered stays, for the next invocation of the version. */
    readonly keepsSandbox: boolean,
    /** Monotonic milliseconds (`performance.now()`) after which the node is not waited for any longer. */
    readonly deadlineAt: number,
    readonly answer: (answer: DispatchAnswer) => void,
  ) {}

  get receivedBytes(): number {
    return this.#chunkBytes;
  }

  addChunk(data: Buffer): void {
    this.#chunks.push(data);
    this.#chunkBytes += data.length;
  }

  setEnd(end: ResponseEnd): void {
    this.#end = end;
  }

  /** The complete answer, or undefined while chunks are missing. */
  complete(): DispatchAnswer | undefined {
    const end = this.#end;
    if (end === undefined) return undefined;
    if (!end.bodyStreamed) return { kind: 'ended', end, body: end.body as Buffer };
    if (this.#chunkBytes < end.bodyBytes) return undefined;
    return { kind: 'ended', end, body: Buffer.concat(this.#chunks, this.#chunkBytes) };
  }
}
