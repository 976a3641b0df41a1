import type { Logger } from '@lambda-fleet/common/logger';
import { type LogBatch, type LogLine, LogStream } from '@lambda-fleet/proto';
import { BatchCommitter } from '../db/batch-committer.js';
import { storableText } from '../db/storable-text.js';
import { areUuids, isPlausibleTime } from '../nodes/agent-claims.js';
import type { LogCapture } from './log-capture.js';
import type { StoredLogLine } from './log-line.js';

export type NewLogLine = Omit<StoredLogLine, 'id'>;

export interface LogWriterOptions {
  /** Writes all lines in one statement and returns those that were new. */
  readonly insert: (lines: readonly NewLogLine[]) => Promise<readonly StoredLogLine[]>;
  /** Takes the lines of test runs aside. */
  readonly capture: LogCapture;
  /** Hears of lines after they were committed. */
  readonly onCommitted: (lines: readonly StoredLogLine[]) => void;
  readonly log: Logger;
}

/** Who sent a batch and keeps it until it is acknowledged. */
export interface LogSource {
  readonly nodeId: string;
  acknowledgeLogs(sequence: number): void;
}

interface Entry {
  readonly source: LogSource;
  readonly sequence: number;
  readonly lines: readonly NewLogLine[];
  readonly bytes: number;
}

/** Text of one statement, roughly: one is encoded as JSON and parsed by the server in one go. */
const STATEMENT_BYTES_MAX = 2 * 1024 * 1024;

/** Ids, times and names beside a line's text. */
const LINE_OVERHEAD_BYTES = 300;

/** An agent cuts lines at a quarter of this; one that does not is not believed. */
const TEXT_LENGTH_MAX = 256 * 1024;

const STREAMS: Readonly<Record<number, NewLogLine['stream']>> = {
  [LogStream.STDOUT]: 'stdout',
  [LogStream.STDERR]: 'stderr',
  [LogStream.PLATFORM]: 'platform',
};

/**
 * Stores the log lines that agents send, in batches and in order, and acknowledges
 * each batch after its commit. A batch that arrives twice is stored once: lines
 * are unique by attempt and sequence.
 */
export class LogWriter {
  readonly #committer: BatchCommitter<Entry>;

  constructor(private readonly options: LogWriterOptions) {
    this.#committer = new BatchCommitter<Entry>({
      what: 'log lines',
      commit: async (entries) => {
        const lines = entries.flatMap((entry) => entry.lines);
        if (lines.length > 0) options.onCommitted(await options.insert(lines));
      },
      onCommitted: (entries) => acknowledge(entries),
      onRefused: (entry, err) => {
        options.log.error({ err, node: entry.source.nodeId, lines: entry.lines.length }, 'log_batch_refused');
        acknowledge([entry]);
      },
      lingerMs: 20,
      // An agent sends a batch with nearly every result, so most hold a line or two.
      batchMax: 2_000,
      sizeOf: (entry) => entry.bytes,
      batchSizeMax: STATEMENT_BYTES_MAX,
      log: options.log,
    });
  }

  /** Batches of one source are acknowledged in the order in which they were appended. */
  append(source: LogSource, batch: LogBatch): void {
    const lines: NewLogLine[] = [];
    let bytes = 0;
    for (const line of batch.lines) {
      const parsed = parseLine(line);
      if (parsed === undefined) {
        this.options.log.warn({ node: source.nodeId }, 'log_line_malformed');
      } else if (!this.options.capture.offer(parsed)) {
        lines.push(parsed);
        bytes += parsed.text.length + LINE_OVERHEAD_BYTES;
      }
    }
    // An empty batch queues too: acknowledging it at once would acknowledge those before it, which are not committed yet.
    this.#committer.push({ source, sequence: batch.sequence, lines, bytes });
  }

  /** Resolves when every line that has come until now is stored. */
  caughtUp(): Promise<void> {
    return this.#committer.caughtUp();
  }

  close(): Promise<void> {
    return this.#committer.close();
  }
}

function acknowledge(entries: readonly Entry[]): void {
  const highest = new Map<LogSource, number>();
  for (const { source, sequence } of entries) highest.set(source, sequence);
  for (const [source, sequence] of highest) source.acknowledgeLogs(sequence);
}

function parseLine(line: LogLine): NewLogLine | undefined {
  const stream = STREAMS[line.stream];
  const ids = [line.invocationId, line.functionId, line.versionId];
  if (stream === undefined || !areUuids(ids) || !isPlausibleTime(line.unixMs)) return undefined;
  return {
    projectId: storableText(line.projectId),
    functionId: line.functionId,
    executionId: line.invocationId,
    versionId: line.versionId,
    // Not set by agents from before there were several.
    epoch: Math.max(1, line.epoch | 0),
    sequence: line.sequence,
    at: new Date(line.unixMs),
    stream,
    level: storableText(line.level.slice(0, 16)),
    text: storableText(line.text.slice(0, TEXT_LENGTH_MAX)),
  };
}
