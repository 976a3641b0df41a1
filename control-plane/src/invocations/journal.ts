import type { Logger } from '@lambda-fleet/common/logger';
import type { InvocationRef } from '@lambda-fleet/proto';
import { BatchCommitter } from '../db/batch-committer.js';
import { bytesLength, type ExecutionRecord, textsLength } from '../executions/execution-rows.js';
import type { NodeSession } from '../nodes/node-session.js';

export interface JournalOptions {
  /** Writes all records in one statement. */
  readonly insert: (records: readonly ExecutionRecord[]) => Promise<void>;
  readonly log: Logger;
}

interface Entry {
  readonly record: ExecutionRecord;
  /** Of its event and result, as far as they are kept. */
  readonly bytes: number;
  /** The agent that keeps this result until it is told that it was committed. */
  readonly keptBy: NodeSession | undefined;
}

/** Inputs and outputs that wait for the database together; past this, records are written without them. */
const WAITING_BYTES_MAX = 64 * 1024 * 1024;

/** Past this, records are written without what is kept beside their texts: a few long ones leave room for many short ones. */
const WAITING_BODIES_MAX = WAITING_BYTES_MAX / 2;

/** One statement's: making it stops this process for about 2 ms for each megabyte of text, 5 for each of anything else. */
const BATCH_BYTES_MAX = 4 * 1024 * 1024;

/** An attempt that failed after so long ran into its deadline, milliseconds. */
const TOO_SLOW_MS = 4_000;
const TOO_SLOW_MAX = 2;

/** Records that no agent keeps; past this, the oldest news is worth less than the process. */
const UNKEPT_MAX = 10_000;

/**
 * Writes executions behind the invocations, in batches.
 *
 * A record of an agent's result is acknowledged to the agent after its commit, so
 * a control plane that dies before loses nothing: the agent sends it again. Its
 * number is bounded by what agents keep. Records that exist only here (a link
 * broke, no node was found) are bounded by {@link UNKEPT_MAX}.
 */
export class Journal {
  readonly #committer: BatchCommitter<Entry>;
  #waitingBytes = 0;
  #unkept = 0;
  #dropped = 0;
  /** Attempts in a row that took as long as a statement may. */
  #tooSlow = 0;

  constructor(private readonly options: JournalOptions) {
    this.#committer = new BatchCommitter<Entry>({
      what: 'executions',
      commit: (entries) => this.#insert(entries.map((entry) => entry.record)),
      onCommitted: (entries) => this.#settled(entries),
      onRefused: (entry, err) => {
        options.log.error({ err, invocation: entry.record.id }, 'execution_refused');
        this.#settled([entry]);
      },
      lingerMs: 50,
      batchMax: 500,
      sizeOf: (entry) => entry.bytes,
      batchSizeMax: BATCH_BYTES_MAX,
      log: options.log,
    });
  }

  append(record: ExecutionRecord, keptBy: NodeSession | undefined): void {
    if (keptBy === undefined) {
      if (this.#unkept >= UNKEPT_MAX) {
        this.#dropped += 1;
        if (this.#dropped % 1_000 === 1) this.options.log.error({ dropped: this.#dropped }, 'executions_dropped');
        return;
      }
      this.#unkept += 1;
    }
    const kept = this.#affordable(record);
    const bytes = textsLength(kept) + bytesLength(kept);
    this.#waitingBytes += bytes;
    this.#committer.push({ record: kept, bytes, keptBy });
  }

  close(): Promise<void> {
    return this.#committer.close();
  }

  /** Without bodies when the database is too slow for them: the same batch is tried until it is in, and all others wait. */
  async #insert(records: readonly ExecutionRecord[]): Promise<void> {
    const since = performance.now();
    const bare = this.#tooSlow >= TOO_SLOW_MAX;
    try {
      await this.options.insert(bare ? records.map((record) => ({ ...record, ...NO_BODIES })) : records);
      this.#tooSlow = 0;
    } catch (err) {
      this.#tooSlow = performance.now() - since < TOO_SLOW_MS ? 0 : this.#tooSlow + 1;
      throw err;
    }
  }

  /** The record, without what there is no room for until the database has taken more. */
  #affordable(record: ExecutionRecord): ExecutionRecord {
    const texts = textsLength(record);
    const bodies = bytesLength(record);
    if (this.#waitingBytes + texts > WAITING_BYTES_MAX) return { ...record, ...NO_TEXTS, ...NO_BODIES };
    const fits = bodies === 0 || this.#waitingBytes + texts + bodies <= WAITING_BODIES_MAX;
    return fits ? record : { ...record, ...NO_BODIES };
  }

  #settled(entries: readonly Entry[]): void {
    const acknowledgements = new Map<NodeSession, InvocationRef[]>();
    for (const { record, bytes, keptBy } of entries) {
      this.#waitingBytes -= bytes;
      if (keptBy === undefined) {
        this.#unkept -= 1;
        continue;
      }
      const ref = { invocationId: record.id, epoch: record.epoch };
      const refs = acknowledgements.get(keptBy);
      if (refs === undefined) acknowledgements.set(keptBy, [ref]);
      else refs.push(ref);
    }
    for (const [session, refs] of acknowledgements) session.acknowledge(refs);
  }
}

const NO_TEXTS = { input: undefined, output: undefined };
const NO_BODIES = { inputBytes: undefined, outputBytes: undefined };
