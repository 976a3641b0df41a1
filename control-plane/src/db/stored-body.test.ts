import { describe, expect, it } from 'vitest';
import { isExact, storedBody, TEXT_BYTES_MAX } from './stored-body.js';

describe('storedBody', () => {
  it.each([
    ['', 'nothing'],
    ['{"a":"ünïcode \u{1F600}"}', 'text of any script'],
    ['"\\ud800"', 'an escaped lone surrogate, which is text as any other'],
    ['\uFEFF1', 'a byte order mark'],
    ['\u0001\u001b[31m', 'control characters'],
    ['x'.repeat(TEXT_BYTES_MAX), 'as much as fits'],
  ])('keeps %j as text alone: %s', (text) => {
    expect(storedBody(Buffer.from(text))).toEqual({ text });
    expect(isExact(text)).toBe(true);
  });

  it.each(['a\0b', 'a\uFFFDb', '\0\uFFFD'])('keeps %j as bytes too, as its text does not say what it was', (text) => {
    const bytes = Buffer.from(text);
    const stored = storedBody(bytes);
    expect(stored).toEqual({ text: text.replaceAll('\0', '\uFFFD'), bytes });
    expect(isExact(stored.text ?? '')).toBe(false);
  });

  it.each([
    ['what is no UTF-8', Buffer.from([0x7b, 0xff, 0x7d])],
    ['half a character', Buffer.from('ü').subarray(0, 1)],
    ['surrogates in UTF-8', Buffer.from([0xed, 0xa0, 0x80])],
    ['more than fits', Buffer.alloc(TEXT_BYTES_MAX + 1, 'x')],
  ])('keeps %s as bytes alone', (_what, bytes) => {
    expect(storedBody(bytes)).toEqual({ bytes });
  });

  it('holds on to no frame that a few bytes came in', () => {
    const frame = Buffer.alloc(1024 * 1024, 0xff);
    expect(storedBody(frame.subarray(0, 10)).bytes?.buffer.byteLength).toBeLessThan(64 * 1024);
  });
});
