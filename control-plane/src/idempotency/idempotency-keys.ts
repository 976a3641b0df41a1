import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from '@lambda-fleet/common/logger';
import { BatchCommitter } from '../db/batch-committer.js';
import type { Database } from '../db/database.js';
import { GroupCommit } from '../db/group-commit.js';
import { type ClaimedKey, claimRunningKeys } from './claim-keys.js';
import { checkSameRequest, type KeyClaim, neverSettled } from './idempotency-key.js';
import { type KeptAnswer, type KeySettlement, readAnswer, settleKeys } from './kept-answer.js';
import { KeySweep } from './key-sweep.js';

export interface IdempotencyKeysOptions {
  readonly database: Database;
  readonly log: Logger;
  /** How long a caller waits for its answer to be stored. Default 10 s. */
  readonly storeWaitMs?: number;
}

/** What a claim of a key finds. */
export type FoundKey =
  | { readonly kind: 'claimed' }
  | { readonly kind: 'answered'; readonly answer: KeptAnswer }
  | {
      readonly kind: 'unanswered';
      readonly invocationId: string;
      readonly ageMs: number;
      /** Until it is certain that no answer comes any more; negative after that. */
      readonly leftMs: number;
    };

/** Longer than a restart of the database takes; the claim's `runsMs` has more to spare. */
const STORE_WAIT_MS = 10_000;

/** Answers that wait for the database together. Those beyond are given without being kept. */
const WAITING_BYTES_MAX = 128 * 1024 * 1024;

const BATCH_BYTES_MAX = 8 * 1024 * 1024;

/** A statement whose end was not seen has ended by then: past the server's own limit. */
const UNSEEN_END_MS = 6_000;

const ROUNDS = 5;

/**
 * Keys of requests whose callers wait for the result.
 *
 *     free → running → answered
 *       └──────┘ release
 *
 * Keys are removed a day after they were first used. A running key whose process has died stays as it is: nobody can tell whether its request ran, unless it was recorded.
 */
export class IdempotencyKeys {
  readonly #claims: GroupCommit<KeyClaim, ClaimedKey>;
  readonly #settlements: BatchCommitter<KeySettlement & { readonly settled: () => void }>;
  readonly #sweep: KeySweep;
  #waitingBytes = 0;

  constructor(private readonly options: IdempotencyKeysOptions) {
    const { database, log } = options;
    this.#claims = new GroupCommit({
      what: 'idempotency keys',
      commit: (claims) => claimRunningKeys(database, claims),
      batchMax: 200,
      inFlightMax: 2,
      pendingMax: 10_000,
    });
    this.#settlements = new BatchCommitter({
      what: 'idempotent answers',
      commit: (entries) => settleKeys(database, entries),
      onCommitted: (entries) => {
        for (const { settled } of entries) settled();
      },
      onRefused: ({ claim, settled }, err) => {
        log.error({ err, invocation: claim.invocationId }, 'idempotent_answer_refused');
        settled();
      },
      lingerMs: 0,
      batchMax: 200,
      sizeOf: ({ answer }) => answer?.body.length ?? 0,
      batchSizeMax: BATCH_BYTES_MAX,
      log,
    });
    this.#sweep = new KeySweep(database, log);
  }

  /**
   * Takes the key, or says what it was used for. Who has claimed it either keeps an answer or releases it.
   *
   * @throws FleetError `idempotency_mismatch` when it was used for another request; `unavailable`
   */
  async claim(claim: KeyClaim): Promise<FoundKey> {
    for (let round = 0; round < ROUNDS; round += 1) {
      const claimed = await this.#take(claim);
      if (claimed.kind === 'claimed') return claimed;
      if (claimed.kind === 'again') continue;
      checkSameRequest(claim, claimed);
      if (claimed.statusCode === null) {
        const { invocationId, ageMs, leftMs } = claimed;
        return { kind: 'unanswered', invocationId, ageMs, leftMs };
      }
      const answer = await readAnswer(this.options.database, claim);
      // Otherwise it has been removed in between.
      if (answer !== undefined) return { kind: 'answered', answer };
    }
    throw neverSettled();
  }

  /** Resolves once the answer is stored, or after a while without: it goes on to be stored then. Never rejects. */
  async keep(claim: KeyClaim, answer: KeptAnswer): Promise<void> {
    const bytes = answer.body.length;
    if (this.#waitingBytes + bytes > WAITING_BYTES_MAX) {
      this.options.log.error({ invocation: claim.invocationId, bytes }, 'idempotent_answer_not_kept');
      return;
    }
    this.#waitingBytes += bytes;
    await this.#settle(claim, answer, () => {
      this.#waitingBytes -= bytes;
    });
  }

  /** Nothing was run: the key is free again. Resolves as {@link keep} does. */
  release(claim: KeyClaim): Promise<void> {
    return this.#settle(claim, null);
  }

  /** Stores what waits, if the database takes it. */
  close(): Promise<void> {
    this.#sweep.close();
    return this.#settlements.close();
  }

  async #take(claim: KeyClaim): Promise<ClaimedKey> {
    try {
      return await this.#claims.submit(claim);
    } catch (err) {
      // The statement may have been carried out, now or in a moment.
      void this.release(claim);
      setTimeout(() => void this.release(claim), UNSEEN_END_MS).unref();
      throw err;
    }
  }

  async #settle(claim: KeyClaim, answer: KeptAnswer | null, onSettled?: () => void): Promise<void> {
    const waited = new AbortController();
    const stored = new Promise<void>((resolve) => {
      const settled = (): void => {
        onSettled?.();
        resolve();
      };
      this.#settlements.push({ claim, answer, settled });
    });
    const { storeWaitMs = STORE_WAIT_MS } = this.options;
    const late = sleep(storeWaitMs, 'late', { signal: waited.signal, ref: false }).catch(() => undefined);
    const end = await Promise.race([stored, late]);
    waited.abort();
    if (end === 'late') this.options.log.warn({ invocation: claim.invocationId }, 'idempotent_answer_late');
  }
}
