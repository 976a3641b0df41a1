import { stripVTControlCharacters } from 'node:util';

/**
 * Text from a function or a server, made harmless for a terminal.
 *
 * Escape sequences go first, as a whole; then every control character that is
 * left except tab and newline (a carriage return alone could overwrite a line),
 * and the characters that reverse the reading direction.
 */
export function printable(text: string): string {
  return stripVTControlCharacters(text).replace(/(?![\t\n])\p{Cc}|[\u202a-\u202e\u2066-\u2069]/gu, '');
}

/** A count of bytes for people: `812 B`, `3.4 KB`, `48.0 MB` (powers of 1024, as the limits are). */
export function bytesText(bytes: number): string {
  if (bytes < 1024) return `${bytes} B`;
  if (bytes < 1024 * 1024) return `${(bytes / 1024).toFixed(1)} KB`;
  return `${(bytes / 1024 / 1024).toFixed(1)} MB`;
}

/** `1 sandbox`, `2 sandboxes`. */
export function countText(count: number, one: string, many: string): string {
  return `${count} ${count === 1 ? one : many}`;
}

/** Milliseconds for people: `850 ms`, `12.3 s`, `2 m 5 s`. */
export function durationText(ms: number): string {
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1_000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1_000);
  return `${Math.floor(seconds / 60)} m ${seconds % 60} s`;
}
