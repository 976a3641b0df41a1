import { isUtf8 } from 'node:buffer';
import { storableText } from './storable-text.js';

/** Text up to this many bytes is kept for as long as its execution. */
export const TEXT_BYTES_MAX = 64 * 1024;

/** An event or a result as it is stored. */
export interface StoredBody {
  /** Absent when it is too long or no text. NULs, which PostgreSQL's text cannot hold, are replaced. */
  readonly text?: string;
  /** What it is, byte for byte, unless the text says so. */
  readonly bytes?: Buffer;
}

/** What stands in stored text for a character that cannot be stored. */
const REPLACEMENT = '\uFFFD';

export function storedBody(bytes: Buffer): StoredBody {
  if (bytes.length > TEXT_BYTES_MAX) return { bytes };
  // Copied: these few bytes may be a part of a whole frame or read, which would be kept with them.
  if (!isUtf8(bytes)) return { bytes: Buffer.from(bytes) };
  const text = storableText(bytes.toString('utf8'));
  return isExact(text) ? { text } : { text, bytes: Buffer.from(bytes) };
}

/**
 * Whether stored text is certainly the whole truth. Where it holds a replacement nobody can tell any more whether that was
 * there before.
 */
export function isExact(text: string): boolean {
  return !text.includes(REPLACEMENT);
}
