import { crashPoint } from '@lambda-fleet/common/crash-points';
import { FleetError } from '@lambda-fleet/common/errors';
import type { Database } from '../db/database.js';
import { GroupCommit } from '../db/group-commit.js';
import type { NewAsyncInvocation } from './async-invocation.js';
import type { QueueLimits } from './enqueue.js';
import { storeInvocations } from './store-invocations.js';

export interface IntakeOptions {
  readonly database: Database;
  readonly limits: QueueLimits;
  /** Called after each commit. */
  readonly onStored: () => void;
}

const BATCH_BYTES_MAX = 8 * 1024 * 1024;

/** When a lane is full, it takes about this long for some of it to run. */
const RETRY_AFTER_SECONDS = 5;

/** The door of the queue: async invocations are committed here before anybody is told that they are accepted. */
export class Intake {
  readonly #commit: GroupCommit<NewAsyncInvocation, boolean>;

  constructor(private readonly options: IntakeOptions) {
    const { database, limits, onStored } = options;
    this.#commit = new GroupCommit({
      what: 'async invocations',
      commit: async (invocations) => {
        crashPoint('before-commit');
        const taken = await storeInvocations(database, limits, invocations);
        crashPoint('after-commit');
        onStored();
        return taken;
      },
      batchMax: 500,
      // All take the lock of the lane: a second one would wait for the first, holding a connection.
      inFlightMax: 1,
      pendingMax: 10_000,
      sizeOf: ({ payload }) => payload.length,
      batchSizeMax: BATCH_BYTES_MAX,
    });
  }

  /** Resolves once it is durable. @throws FleetError `throttled` when its lane is full, `unavailable` */
  async accept(invocation: NewAsyncInvocation): Promise<void> {
    if (await this.#commit.submit(invocation)) return;
    const { queuedMax, queuedBytesMax } = this.options.limits;
    throw new FleetError(
      'throttled',
      `"${invocation.functionName}" has as many async invocations queued as it may: ${queuedMax}, with ${queuedBytesMax} bytes together. Send this one again when some have run.`,
      { retryAfterSeconds: RETRY_AFTER_SECONDS },
    );
  }
}
