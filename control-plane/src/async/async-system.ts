import { randomUUID } from 'node:crypto';
import type { Logger } from '@lambda-fleet/common/logger';
import { Database } from '../db/database.js';
import type { ExecutionTable } from '../executions/execution-table.js';
import { resolvedVersionOf } from '../functions/function-record.js';
import type { FunctionTable } from '../functions/function-table.js';
import type { VersionCache } from '../functions/version-cache.js';
import type { Invoke } from '../invocations/invocation.js';
import type { JobStatus } from '../jobs/job.js';
import type { WebhookSender } from '../webhooks/webhook-sender.js';
import { AdriftInvocations, type ConnectedAgent } from './adrift-invocations.js';
import { AsyncInvocations } from './async-invocations.js';
import { AsyncRunner } from './async-runner.js';
import { AsyncSettingsTable } from './async-settings.js';
import { AttemptSettler } from './attempt-settler.js';
import { DeadLetterSweep } from './dead-letter-sweep.js';
import { DeadLetters } from './dead-letters.js';
import { Destinations } from './destinations.js';
import type { QueueLimits } from './enqueue.js';
import { Intake } from './intake.js';
import { LaneSweep } from './lane-sweep.js';
import { LateResults } from './late-results.js';
import { OpenInvocations } from './open-invocations.js';
import { QUEUE_PLANNING, QUEUE_UNHURRIED } from './queue-planning.js';
import { Replays } from './replays.js';
import type { AttemptRunner } from './run-attempt.js';
import { createRunFunction } from './run-function.js';
import { createRunWebhook } from './run-webhook.js';
import { Slowness } from './slowness.js';

export interface AsyncSystemOptions {
  readonly database: Database;
  readonly functions: FunctionTable;
  readonly executions: ExecutionTable;
  readonly versions: VersionCache;
  readonly invoke: Invoke;
  readonly webhooks: WebhookSender;
  readonly agent: (nodeId: string) => ConnectedAgent | undefined;
  /** A node did not finish an attempt, and its invocation was queued again. Never rejects. */
  readonly onRequeued: (nodeId: string) => Promise<void>;
  /** Whether any node is connected. */
  readonly ready: () => boolean;
  readonly limits: QueueLimits;
  readonly concurrencyMax: number;
  readonly jobs: JobsInQueue;
  readonly log: Logger;
}

/** What running jobs takes besides. */
export interface JobsInQueue {
  readonly run: AttemptRunner;
  readonly limits: QueueLimits;
  readonly concurrencyMax: number;
  /** Called after the commit that ends a job. */
  readonly onEnded: (id: string, status: JobStatus) => void;
}

/** Everything about async invocations, put together. */
export interface AsyncSystem {
  readonly invocations: AsyncInvocations;
  /** The door for jobs. */
  readonly jobIntake: Intake;
  readonly deadLetters: DeadLetters;
  readonly settings: AsyncSettingsTable;
  readonly replays: Replays;
  readonly runner: AsyncRunner;
  readonly lateResults: LateResults;
  /** A node has connected: it may know how adrift invocations ended, and can take new ones. */
  nodeConnected(): void;
  /** Nodes were declared lost: what ran there can be run again. */
  nodesLost(): void;
  close(): Promise<void>;
}

export function createAsyncSystem(options: AsyncSystemOptions): AsyncSystem {
  const {
    database,
    functions,
    executions,
    versions,
    invoke,
    webhooks,
    agent,
    ready,
    limits,
    concurrencyMax,
    jobs,
    log,
  } = options;
  const { url } = database;
  const queueDatabase = new Database({ url, log, connectionsMax: 8, settings: QUEUE_PLANNING });
  const unhurriedDatabase = new Database({ url, log, connectionsMax: 2, settings: QUEUE_UNHURRIED });
  const resolve = (projectId: string, name: string) => versions.resolve(projectId, name);
  const settler: AttemptSettler = new AttemptSettler({
    database: queueDatabase,
    destinations: new Destinations({ resolve, log }),
    onQueued: (delayMs) => runner.wakeAfter(delayMs),
    onJobEnded: jobs.onEnded,
    onRequeued: options.onRequeued,
    log,
  });
  const runFunction = createRunFunction({
    resolve,
    findVersion: async (projectId, versionId) => {
      const record = await functions.findVersion(projectId, versionId);
      return record && resolvedVersionOf(record);
    },
    invoke,
  });
  const slowness = new Slowness();
  const runWebhook = createRunWebhook(webhooks);
  const runners = { function: runFunction, webhook: runWebhook, job: jobs.run };
  const runner = new AsyncRunner({
    database: queueDatabase,
    unhurriedDatabase,
    owner: randomUUID(),
    settler,
    run: (row, context) => runners[row.kind](row, context),
    jobsMax: jobs.concurrencyMax,
    ready,
    slowness: () => slowness.ratio,
    concurrencyMax,
    log,
  });
  const adrift = new AdriftInvocations({
    database: queueDatabase,
    settler,
    agent,
    holds: (id) => runner.holds(id),
    log,
  });
  const sweeps = [new DeadLetterSweep(database, log), new LaneSweep(database, log)];
  const lateResults = new LateResults({ database: queueDatabase, settler, log });
  const wake = (): void => runner.wake();
  const intake = new Intake({ database: queueDatabase, limits, slowness, onStored: wake });
  runner.start();
  return {
    invocations: new AsyncInvocations({
      intake,
      open: new OpenInvocations(database),
      cancelRunning: (id) => {
        if (!runner.cancel(id)) void adrift.look();
      },
    }),
    jobIntake: new Intake({ database: queueDatabase, limits: jobs.limits, slowness, onStored: wake }),
    deadLetters: new DeadLetters(database, limits, wake),
    settings: new AsyncSettingsTable(database, webhooks),
    replays: new Replays({ database, executions, functions, intake }),
    runner,
    lateResults,
    nodeConnected: () => {
      runner.wake();
      void adrift.look();
    },
    nodesLost: () => void adrift.look(),
    close: async () => {
      adrift.close();
      for (const sweep of sweeps) sweep.close();
      await runner.close();
      await lateResults.close();
      await Promise.all([queueDatabase.close(), unhurriedDatabase.close()]);
    },
  };
}
