import type { Context } from './context.js';
import { NativePromise } from './intrinsics.js';
import type { Handler } from './load-handler.js';

/** Handlers that declare this many parameters take a callback. */
const CALLBACK_PARAMETERS = 3;

/**
 * Calls a handler and settles with its first result: the value or promise it returns,
 * what it gives to its callback, or what it throws.
 *
 * A handler that declares a callback and returns no promise is waited for, until
 * nothing is left that could call back; then its result is `undefined`, as on AWS.
 *
 * @param whenNothingIsLeft calls its argument once the event loop has run dry; returns how to stop watching
 */
export function callHandler(
  handler: Handler,
  event: unknown,
  context: Context,
  whenNothingIsLeft: (dry: () => void) => () => void,
): Promise<unknown> {
  return new NativePromise((resolve, reject) => {
    let stopWatching: (() => void) | undefined;
    let called = false;
    const callback = (error?: unknown, result?: unknown) => {
      called = true;
      stopWatching?.();
      if (error !== undefined && error !== null) {
        reject(error);
      } else {
        resolve(result);
      }
    };
    const returned = handler(event, context, callback);
    if (handler.length < CALLBACK_PARAMETERS || isThenable(returned)) {
      resolve(returned);
    } else if (!called) {
      stopWatching = whenNothingIsLeft(() => resolve(undefined));
    }
  });
}

function isThenable(value: unknown): boolean {
  return typeof value === 'object' && value !== null && 'then' in value && typeof value.then === 'function';
}
