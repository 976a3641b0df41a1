import { byteLength, bytesOf, textOf } from './intrinsics.js';

/** UTF-8 needs at most three bytes for each of a string's units. */
const UNIT_BYTES_MAX = 3;

/** `text` if it has at most `bytesMax` bytes of UTF-8, else as much of its start as fits. */
export function cutText(text: string, bytesMax: number): string {
  if (text.length * UNIT_BYTES_MAX <= bytesMax) {
    return text;
  }
  // A unit is at least one byte, so no more than `bytesMax` units can fit.
  const start = text.slice(0, bytesMax);
  if (start.length === text.length && byteLength(text) <= bytesMax) {
    return text;
  }
  const bytes = bytesOf(start);
  return textOf(bytes, 'utf8', 0, characterStart(bytes, Math.min(bytesMax, bytes.length)));
}

/** The last position at or before `at` that does not split a character. */
function characterStart(bytes: Buffer, at: number): number {
  let start = at;
  while (start > 0 && ((bytes[start] ?? 0) & 0xc0) === 0x80) {
    start -= 1;
  }
  return start;
}

/** Calls `onPiece` with consecutive pieces of `text`, each of at most `bytesMax` bytes. Empty text is one empty piece. */
export function eachPiece(text: string, bytesMax: number, onPiece: (piece: string) => void): void {
  let left = text;
  do {
    const piece = cutText(left.slice(0, bytesMax), bytesMax);
    onPiece(piece);
    left = left.slice(piece.length);
  } while (left.length > 0);
}
