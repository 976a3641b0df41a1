import { KEPT_LINE_LIMITS, ReadBudgets } from '../channel/read-budgets.js';
import type { Pausable } from '../channel/read-gate.js';

export type OutputStream = 'stdout' | 'stderr';

/** Takes a piece of output; returns how many lines of it were kept. */
export type OutputListener = (stream: OutputStream, bytes: Buffer) => number;

/** An invocation's log holds 1 MB, so of more it is only counted how much there is. */
const BYTE_LIMITS = { perSecond: 1024 * 1024, burst: 4 * 1024 * 1024 };
/** A piece of output as the system delivers it may hold 30,000 lines. */
const LINES_AT_ONCE = 256;
const NEWLINE = 0x0a;

interface Piece {
  readonly stream: OutputStream;
  readonly bytes: Buffer;
}

/**
 * A sandbox's raw output (file descriptors 1 and 2, past the runtime's own logging) on its way to its one listener, and
 * no faster than its neighbours can bear: a program that writes more waits. What comes before there is a listener is dropped.
 *
 * States: flowing ⇄ held, when a budget is used up and the rest of what had been read waits → lifted, when all goes through.
 */
export class RawOutput {
  #listener: OutputListener = () => 0;
  #waiting: Piece[] = [];
  #held = false;
  readonly #reads: ReadBudgets<'bytes' | 'kept lines'>;

  constructor(private readonly source: Pausable) {
    this.#reads = new ReadBudgets(
      { pause: () => this.#hold(), resume: () => this.#release() },
      { bytes: BYTE_LIMITS, 'kept lines': KEPT_LINE_LIMITS },
    );
  }

  listen(listener: OutputListener): void {
    this.#listener = listener;
  }

  push(stream: OutputStream, bytes: Buffer): void {
    this.#waiting.push({ stream, bytes });
    this.#deliver();
  }

  /** For a source that is ending: what it still holds is bounded, and must be read to see its end. */
  lift(): void {
    this.#reads.lift();
  }

  #hold(): void {
    this.#held = true;
    this.source.pause();
  }

  #release(): void {
    this.#held = false;
    this.#deliver();
    if (!this.#held) this.source.resume();
  }

  #deliver(): void {
    while (!this.#held) {
      const piece = this.#waiting.shift();
      if (piece === undefined) return;
      const { stream, bytes } = piece;
      const end = endOfLines(bytes, LINES_AT_ONCE);
      if (end < bytes.length) this.#waiting.unshift({ stream, bytes: bytes.subarray(end) });
      const kept = this.#listener(stream, bytes.subarray(0, end));
      this.#reads.spend('bytes', end);
      this.#reads.spend('kept lines', kept);
    }
  }
}

/** After so many lines, or where the bytes end. */
function endOfLines(bytes: Buffer, lines: number): number {
  let end = 0;
  for (let line = 0; line < lines; line += 1) {
    const newline = bytes.indexOf(NEWLINE, end);
    if (newline === -1) return bytes.length;
    end = newline + 1;
  }
  return end;
}
