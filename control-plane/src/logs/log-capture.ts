import type { LogLine } from './log-line.js';

export type CapturedLine = Omit<LogLine, 'id'> & { readonly sequence: number };

export interface Capture {
  /** The lines in order. All of them, once the result is there: agents send an invocation's lines before it. */
  lines(): readonly LogLine[];
  end(): void;
}

/** Lines of one test run at most; more are counted and dropped. */
const LINES_MAX = 2_000;

/** Stragglers of a test run that is over are dropped for this long. */
const FORGET_MS = 60_000;

/**
 * Takes the log lines of test runs aside, so that they are answered with the
 * result and never stored. The log writer offers every line before it stores it.
 */
export class LogCapture {
  readonly #captures = new Map<string, { lines: CapturedLine[]; dropped: number }>();

  begin(executionId: string): Capture {
    const captured: { lines: CapturedLine[]; dropped: number } = { lines: [], dropped: 0 };
    this.#captures.set(executionId, captured);
    return {
      lines: () => {
        const lines = captured.lines.sort((a, b) => a.sequence - b.sequence);
        const shown: LogLine[] = lines.map(({ sequence: _, ...line }, id) => ({ id, ...line }));
        const last = shown.at(-1);
        if (captured.dropped === 0 || last === undefined) return shown;
        const text = `${captured.dropped} more lines are not shown`;
        return [...shown, { ...last, id: shown.length, stream: 'platform', level: '', text }];
      },
      end: () => void setTimeout(() => this.#captures.delete(executionId), FORGET_MS).unref(),
    };
  }

  /** True when the line belongs to a test run: it is taken and must not be stored. */
  offer(line: CapturedLine): boolean {
    const captured = this.#captures.get(line.executionId);
    if (captured === undefined) return false;
    if (captured.lines.length < LINES_MAX) captured.lines.push(line);
    else captured.dropped += 1;
    return true;
  }
}
