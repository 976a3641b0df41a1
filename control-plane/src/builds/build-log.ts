import type { Logger } from '@lambda-fleet/common/logger';
import { type BuildLine, LogStream } from '@lambda-fleet/proto';
import { BatchCommitter } from '../db/batch-committer.js';
import { storableText } from '../db/storable-text.js';
import { isPlausibleTime } from '../nodes/agent-claims.js';
import type { StoredBuildLine } from './build-record.js';
import type { NewBuildLine } from './build-table.js';

/** An agent keeps to less by itself; one that does not is not listened to any more. */
const LINES_MAX = 12_000;
const CHARS_MAX = 2 * 1024 * 1024;
const LINE_CHARS_MAX = 64 * 1024;

const STREAMS: Readonly<Record<number, StoredBuildLine['stream']>> = {
  [LogStream.STDOUT]: 'stdout',
  [LogStream.STDERR]: 'stderr',
  [LogStream.PLATFORM]: 'platform',
};

export interface BuildLogsOptions {
  readonly insert: (lines: readonly NewBuildLine[]) => Promise<void>;
  /** Lines of these builds were committed. */
  readonly onCommitted: (buildId: string) => void;
  readonly log: Logger;
}

/** Writes the output of all builds behind, in batches. */
export class BuildLogs {
  readonly #committer: BatchCommitter<NewBuildLine>;
  readonly #open = new Map<string, BuildLog>();

  constructor(options: BuildLogsOptions) {
    this.#committer = new BatchCommitter<NewBuildLine>({
      what: 'build lines',
      commit: options.insert,
      onCommitted: (lines) => {
        const latest = new Map(lines.map((line) => [line.buildId, line.sequence]));
        for (const [buildId, sequence] of latest) {
          options.onCommitted(buildId);
          this.#open.get(buildId)?.committed(sequence);
        }
      },
      onRefused: (line, err) => {
        options.log.error({ err, build: line.buildId }, 'build_line_refused');
        this.#open.get(line.buildId)?.committed(line.sequence);
      },
      lingerMs: 50,
      batchMax: 1_000,
      sizeOf: (line) => line.text.length,
      batchSizeMax: 1024 * 1024,
      log: options.log,
    });
  }

  open(projectId: string, buildId: string): BuildLog {
    const log = new BuildLog(projectId, buildId, (line) => this.#committer.push(line));
    this.#open.set(buildId, log);
    return log;
  }

  forget(buildId: string): void {
    this.#open.delete(buildId);
  }

  close(): Promise<void> {
    return this.#committer.close();
  }
}

/** The numbered output of one build. */
export class BuildLog {
  #sequence = 0;
  #committed = 0;
  #chars = 0;
  #waiting: (() => void)[] = [];

  constructor(
    private readonly projectId: string,
    private readonly buildId: string,
    private readonly write: (line: NewBuildLine) => void,
  ) {}

  /** What an agent says that a Dockerfile wrote. */
  receive(lines: readonly BuildLine[]): void {
    for (const { unixMs, stream, text } of lines) {
      const at = isPlausibleTime(unixMs) ? new Date(unixMs) : new Date();
      this.#add(at, STREAMS[stream] ?? 'stdout', storableText(text.slice(0, LINE_CHARS_MAX)));
    }
  }

  platform(text: string): void {
    this.#add(new Date(), 'platform', text);
  }

  committed(sequence: number): void {
    this.#committed = Math.max(this.#committed, sequence);
    if (this.#committed < this.#sequence) return;
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  /** Resolves when everything so far can be read. */
  settled(): Promise<void> {
    if (this.#committed === this.#sequence) return Promise.resolve();
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  #add(at: Date, stream: StoredBuildLine['stream'], text: string): void {
    if (stream !== 'platform' && (this.#sequence >= LINES_MAX || this.#chars + text.length > CHARS_MAX)) return;
    this.#sequence += 1;
    this.#chars += text.length;
    this.write({ projectId: this.projectId, buildId: this.buildId, sequence: this.#sequence, at, stream, text });
  }
}
