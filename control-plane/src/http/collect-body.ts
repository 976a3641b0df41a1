import type { IncomingMessage } from 'node:http';
import { FleetError } from '@lambda-fleet/common/errors';
import type { BodyBudget } from './body-budget.js';

/** The client went away before its request was complete: there is nobody to answer. */
export class ClientGone extends Error {
  override readonly name = 'ClientGone';
}

export interface CollectedBody {
  readonly bytes: Buffer;
  /** To be called once the bytes are not needed any more. */
  readonly release: () => void;
}

/** Whether a request says by itself that its body is too long. */
export function declaresTooMuch(req: IncomingMessage, bytesMax: number): boolean {
  return Number(req.headers['content-length'] ?? 0) > bytesMax;
}

/**
 * Reads a whole request body into memory.
 *
 * @throws FleetError `payload_too_large` before buffering when the declared length says so, otherwise as soon
 * as more than `bytesMax` arrived; `throttled` when the process holds too many bodies.
 * @throws ClientGone
 */
export function collectBody(req: IncomingMessage, bytesMax: number, budget: BodyBudget): Promise<CollectedBody> {
  return new Promise((resolve, reject) => {
    if (declaresTooMuch(req, bytesMax)) throw payloadTooLarge(bytesMax);
    if (req.destroyed && !req.complete) throw new ClientGone();
    const chunks: Buffer[] = [];
    let length = 0;
    let held = 0;
    const fail = (err: Error): void => {
      stop();
      budget.giveBack(held);
      reject(err);
    };
    const onData = (chunk: Buffer): void => {
      length += chunk.length;
      try {
        if (length > bytesMax) throw payloadTooLarge(bytesMax);
        budget.take(chunk.length);
        held += chunk.length;
        chunks.push(chunk);
      } catch (err) {
        fail(err as FleetError);
      }
    };
    const onEnd = (): void => {
      stop();
      const [only] = chunks;
      const bytes = chunks.length === 1 && only !== undefined ? only : Buffer.concat(chunks, length);
      let released = false;
      const release = (): void => {
        if (!released) budget.giveBack(held);
        released = true;
      };
      resolve({ bytes, release });
    };
    const onGone = (): void => fail(new ClientGone());
    const stop = (): void => {
      req.off('data', onData).off('end', onEnd).off('close', onGone).off('error', onGone);
    };
    req.on('data', onData).on('end', onEnd).on('close', onGone).on('error', onGone);
  });
}

function payloadTooLarge(bytesMax: number): FleetError {
  return new FleetError(
    'payload_too_large',
    `The request body is too large: at most ${bytesMax} bytes are allowed here. Pass a reference to the data instead.`,
    { bytesMax },
  );
}
