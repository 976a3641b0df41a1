import type { InvocationRef, LogBatch, ResponseEnd } from '@lambda-fleet/proto';

/** Twice what an agent keeps: one that has more on the way is none. */
const RESULTS_MAX = 20_000;
const RESULT_BYTES_MAX = 128 * 1024 * 1024;
const LOG_BYTES_MAX = 64 * 1024 * 1024;
/** Each batch is at least a line. */
const LOG_BATCHES_MAX = 100_000;

const RESULT_OVERHEAD_BYTES = 1_024;
const LINE_OVERHEAD_BYTES = 160;

/**
 * What one session has sent and nobody has acknowledged: it waits for the database in this process. Agents keep only so much; this
 * bounds what one that does not care takes of the memory.
 */
export class Unacknowledged {
  readonly #results = new Map<string, { times: number; bytes: number }>();
  #resultsSent = 0;
  #resultBytes = 0;
  #batches: { readonly sequence: number; readonly bytes: number }[] = [];
  #logBytes = 0;

  /** False: it is too much. */
  addResult(end: ResponseEnd): boolean {
    const bytes = RESULT_OVERHEAD_BYTES + end.body.length + (end.error?.errorMessage.length ?? 0);
    const entry = this.#results.get(keyOf(end)) ?? { times: 0, bytes: 0 };
    this.#results.set(keyOf(end), entry);
    entry.times += 1;
    entry.bytes += bytes;
    this.#resultsSent += 1;
    this.#resultBytes += bytes;
    return this.#resultsSent <= RESULTS_MAX && this.#resultBytes <= RESULT_BYTES_MAX;
  }

  removeResults(refs: readonly InvocationRef[]): void {
    for (const ref of refs) {
      const entry = this.#results.get(keyOf(ref));
      if (entry === undefined) continue;
      this.#resultsSent -= 1;
      entry.times -= 1;
      if (entry.times > 0) continue;
      this.#resultBytes -= entry.bytes;
      this.#results.delete(keyOf(ref));
    }
  }

  /** False: it is too much. */
  addLogs({ sequence, lines }: LogBatch): boolean {
    let bytes = LINE_OVERHEAD_BYTES;
    for (const { text } of lines) bytes += LINE_OVERHEAD_BYTES + text.length;
    this.#batches.push({ sequence, bytes });
    this.#logBytes += bytes;
    return this.#logBytes <= LOG_BYTES_MAX && this.#batches.length <= LOG_BATCHES_MAX;
  }

  /** Batches are acknowledged in the order in which they came. */
  removeLogs(sequence: number): void {
    const end = this.#batches.findLastIndex((batch) => batch.sequence === sequence) + 1;
    for (const { bytes } of this.#batches.splice(0, end)) this.#logBytes -= bytes;
  }
}

function keyOf({ invocationId, epoch }: InvocationRef): string {
  return `${invocationId}/${epoch}`;
}
