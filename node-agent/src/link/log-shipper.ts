import { type LogBatch, type LogLine, LogStream } from '@lambda-fleet/proto';

export interface LogShipperOptions {
  /** Hands a batch to the link; it may be dropped there while disconnected, and is then sent again by `replay`. */
  readonly send: (batch: LogBatch, bytes: number) => void;
  /** How long a line may wait for company, milliseconds. */
  readonly lingerMs: number;
  readonly batchLinesMax: number;
  /** A batch is sent when it holds this much, so that one never outgrows a gRPC message. */
  readonly batchBytesMax: number;
  /** Shared with the shippers of the other links. */
  readonly budget: LogBudget;
}

/** Bytes of lines that wait for an acknowledgement, of all links together; past `max`, new lines are dropped and counted. */
export interface LogBudget {
  used: number;
  readonly max: number;
}

/** Lines that were sent together and that nobody has acknowledged. */
export interface KeptLines {
  readonly lines: LogLine[];
  readonly bytes: number;
}

interface KeptBatch {
  readonly batch: LogBatch;
  readonly bytes: number;
}

/** Ids and numbers beside a line's text. */
const LINE_OVERHEAD_BYTES = 160;

/**
 * Collects the log lines of one link into batches and keeps each batch until it is committed. When the link breaks its
 * batches may go to the shipper of another one: lines are stored once, by attempt and number.
 *
 * `flush` is called before a result is sent, so that a caller who has the answer
 * finds the lines. Bounded: while no control plane acknowledges, lines past the
 * limit are dropped, and the first line after that says how many.
 */
export class LogShipper {
  #sequence = 0;
  #lines: LogLine[] = [];
  #lineBytes = 0;
  #timer: NodeJS.Timeout | undefined;
  #kept: KeptBatch[] = [];
  #dropped = 0;

  constructor(private readonly options: LogShipperOptions) {}

  /** Whether every line is committed. */
  get settled(): boolean {
    return this.#lines.length === 0 && this.#kept.length === 0;
  }

  add(line: LogLine): void {
    const bytes = line.text.length + LINE_OVERHEAD_BYTES;
    const { budget } = this.options;
    if (budget.used + bytes > budget.max) {
      this.#dropped += 1;
      return;
    }
    if (this.#dropped > 0) this.#append(this.#droppedMarker(line), LINE_OVERHEAD_BYTES);
    this.#append(line, bytes);
    const full = this.#lines.length >= this.options.batchLinesMax || this.#lineBytes >= this.options.batchBytesMax;
    if (full) this.flush();
    else this.#timer ??= setTimeout(this.flush, this.options.lingerMs);
  }

  readonly flush = (): void => {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#lines.length === 0) return;
    const lines = { lines: this.#lines, bytes: this.#lineBytes };
    this.#lines = [];
    this.#lineBytes = 0;
    this.#ship(lines);
  };

  /** Ships what another link could not. It is counted already. */
  adopt(left: readonly KeptLines[]): void {
    for (const lines of left) this.#ship(lines);
  }

  /** Gives away everything that is not acknowledged, for another link to ship. */
  release(): readonly KeptLines[] {
    this.flush();
    const left = this.#kept.map(({ batch: { lines }, bytes }) => ({ lines, bytes }));
    this.#kept = [];
    return left;
  }

  /** Every batch up to and including `sequence` is committed. */
  acknowledge(sequence: number): void {
    while (this.#kept[0] !== undefined && this.#kept[0].batch.sequence <= sequence) {
      this.options.budget.used -= this.#kept[0].bytes;
      this.#kept.shift();
    }
  }

  /** Sends every kept batch again, in order. */
  replay(): void {
    for (const { batch, bytes } of this.#kept) this.options.send(batch, bytes);
  }

  #append(line: LogLine, bytes: number): void {
    this.#lines.push(line);
    this.#lineBytes += bytes;
    this.options.budget.used += bytes;
  }

  #ship({ lines, bytes }: KeptLines): void {
    this.#sequence += 1;
    const batch = { sequence: this.#sequence, lines };
    this.#kept.push({ batch, bytes });
    this.options.send(batch, bytes);
  }

  /**
   * Stands in for the lines that were dropped. It takes the sequence number just
   * before the line that follows, which belonged to one of them.
   */
  #droppedMarker(next: LogLine): LogLine {
    const text = `[${this.#dropped} log lines were dropped on this node: the control plane did not take them in time]`;
    this.#dropped = 0;
    return { ...next, sequence: Math.max(0, next.sequence - 1), stream: LogStream.PLATFORM, level: 'WARN', text };
  }
}
