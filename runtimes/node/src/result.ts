import type { BodyEncoding } from './frames.js';
import { Fault } from './function-error.js';
import { byteLength, toJson } from './intrinsics.js';

/** AWS's figure, which its clients know. */
const RESPONSE_BYTES_MAX = 6_291_556;

/** `value` as JSON; what has none, such as `undefined`, is `null`. @throws Fault Runtime.MarshalError */
export function marshal(value: unknown): string {
  try {
    return toJson(value) ?? 'null';
  } catch (thrown) {
    throw new Fault('Runtime.MarshalError', `The handler's result cannot be sent as JSON: ${reason(thrown)}`);
  }
}

/** @throws Fault Function.ResponseSizeTooLarge */
export function checkSize(body: string, encoding: BodyEncoding): void {
  // No unit takes more than three bytes, and none of base64 more than one.
  if (body.length * 3 > RESPONSE_BYTES_MAX && byteLength(body, encoding) > RESPONSE_BYTES_MAX) {
    throw new Fault(
      'Function.ResponseSizeTooLarge',
      `Response payload size exceeded maximum allowed payload size (${RESPONSE_BYTES_MAX} bytes).`,
    );
  }
}

/** Whatever user code threw out of `toJSON` or a getter. */
export function reason(thrown: unknown): string {
  try {
    return thrown instanceof Error ? thrown.message : String(thrown);
  } catch {
    return 'it threw a value that cannot be shown';
  }
}
