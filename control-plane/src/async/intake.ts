import { crashPoint } from '@lambda-fleet/common/crash-points';
import { FleetError } from '@lambda-fleet/common/errors';
import type { Database } from '../db/database.js';
import { GroupCommit } from '../db/group-commit.js';
import { checkSameRequest, type KeyClaim, neverSettled } from '../idempotency/idempotency-key.js';
import type { NewAsyncInvocation } from './async-invocation.js';
import type { QueueLimits } from './enqueue.js';
import type { Slowness } from './slowness.js';
import { storeInvocations } from './store-invocations.js';
import { type KeyedInvocation, type Stored, storeKeyedInvocations } from './store-keyed-invocations.js';

export interface IntakeOptions {
  readonly database: Database;
  readonly limits: QueueLimits;
  /** Is told how long each statement takes. */
  readonly slowness: Slowness;
  /** Called after each commit. */
  readonly onStored: () => void;
}

const ROUNDS = 5;

const BATCH_BYTES_MAX = 8 * 1024 * 1024;

/** When a lane is full, it takes about this long for some of it to run. */
const RETRY_AFTER_SECONDS = 5;

/** The door of the queue: async invocations are committed here before anybody is told that they are accepted. */
export class Intake {
  readonly #commit: GroupCommit<KeyedInvocation, Stored>;

  constructor(private readonly options: IntakeOptions) {
    const { database, limits, onStored, slowness } = options;
    this.#commit = new GroupCommit({
      what: 'async invocations',
      commit: async (entries) => {
        crashPoint('before-commit');
        const startedAt = performance.now();
        const stored = await store(database, limits, entries);
        slowness.took(performance.now() - startedAt);
        crashPoint('after-commit');
        onStored();
        return stored;
      },
      batchMax: 500,
      // All take the lock of the lane: a second one would wait for the first, holding a connection.
      inFlightMax: 1,
      pendingMax: 10_000,
      sizeOf: ({ invocation: { payload, job } }) =>
        payload.length + (job === undefined ? 0 : job.code.length + job.argsBytes),
      batchSizeMax: BATCH_BYTES_MAX,
    });
  }

  /**
   * Resolves once it is durable, with its id, or that of the invocation that was accepted under the same key before.
   *
   * @throws FleetError `throttled` when its lane is full, `unavailable`, `idempotency_mismatch`
   */
  async accept(invocation: NewAsyncInvocation, claim?: KeyClaim): Promise<string> {
    for (let round = 0; round < ROUNDS; round += 1) {
      const stored = await this.#commit.submit({ invocation, claim });
      if (stored.kind === 'stored') return invocation.id;
      if (stored.kind === 'full') throw this.#full(invocation);
      if (stored.kind === 'again' || claim === undefined) continue;
      checkSameRequest(claim, stored);
      return stored.invocationId;
    }
    throw neverSettled();
  }

  #full(invocation: NewAsyncInvocation): FleetError {
    const { queuedMax, queuedBytesMax } = this.options.limits;
    const { kind, functionName } = invocation;
    const whose =
      kind === 'job' ? 'The project has as many jobs of this kind' : `"${functionName}" has as many async invocations`;
    return new FleetError(
      'throttled',
      `${whose} queued as it may: ${queuedMax}, with ${queuedBytesMax} bytes together. Send this one again when some have run.`,
      { retryAfterSeconds: RETRY_AFTER_SECONDS },
    );
  }
}

async function store(
  database: Database,
  limits: QueueLimits,
  entries: readonly KeyedInvocation[],
): Promise<readonly Stored[]> {
  if (entries.some(({ claim }) => claim !== undefined)) return storeKeyedInvocations(database, limits, entries);
  const invocations = entries.map(({ invocation }) => invocation);
  const taken = await storeInvocations(database, limits, invocations);
  return taken.map((isTaken) => (isTaken ? { kind: 'stored' } : { kind: 'full' }));
}
