import { Fault } from './function-error.js';
import { isUtf8, parseJson, textOf } from './intrinsics.js';

/** @throws Fault Runtime.InvalidEvent */
export function eventText(body: Buffer): string {
  if (!isUtf8(body)) {
    throw new Fault('Runtime.InvalidEvent', 'The event is not JSON: its bytes are not UTF-8.');
  }
  return textOf(body, 'utf8');
}

/** The event of a handler; `{}` where the body is empty. @throws Fault Runtime.InvalidEvent */
export function readEvent(body: Buffer): unknown {
  if (body.length === 0) {
    return {};
  }
  const text = eventText(body);
  try {
    return parseJson(text);
  } catch (thrown) {
    throw new Fault('Runtime.InvalidEvent', `The event is not JSON: ${(thrown as Error).message}`);
  }
}
