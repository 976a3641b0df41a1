import { encodeFrame, FrameType } from './frames.js';
import { httpResponse } from './http-response.js';
import { checkSize } from './result.js';

/** RESPONSE with JSON text; `id` is JSON text. @throws Fault Function.ResponseSizeTooLarge */
export function jsonFrame(id: string, json: string): Buffer {
  checkSize(json, 'utf8');
  return encodeFrame(FrameType.RESPONSE, `{"id":${id}}`, json);
}

/** RESPONSE with what `value` is as an HTTP response. @throws Fault as `httpResponse` does */
export function httpFrame(id: string, value: unknown): Buffer {
  const { head, body, encoding } = httpResponse(value);
  checkSize(body, encoding);
  return encodeFrame(FrameType.RESPONSE, `{"id":${id},"http":${head}}`, body, encoding);
}
