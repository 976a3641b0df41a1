import { performance } from 'node:perf_hooks';
import { InvokeKind, type VersionSpec } from '@lambda-fleet/proto';
import { pino } from 'pino';
import { ConcurrencySettingsTable } from '../admission/concurrency-settings.js';
import { ImageStore } from '../artifacts/image-store.js';
import { PostgresArtifactStore } from '../artifacts/postgres-artifact-store.js';
import { createAsyncSystem } from '../async/async-system.js';
import { ApiKeys } from '../auth/api-keys.js';
import { BuildFeed } from '../builds/build-feed.js';
import { BuildLogs } from '../builds/build-log.js';
import { BuildRunner } from '../builds/build-runner.js';
import { BuildTable } from '../builds/build-table.js';
import { NotificationListener } from '../db/notification-listener.js';
import { startTestPostgres, type TestPostgres } from '../db/test-postgres.js';
import { ExecutionTable } from '../executions/execution-table.js';
import { Deployer } from '../functions/deployer.js';
import { resolvedVersionOf } from '../functions/function-record.js';
import { FunctionTable } from '../functions/function-table.js';
import { VersionCache } from '../functions/version-cache.js';
import { functionUrl } from '../gateway/function-url.js';
import type { InvocationRequest, InvocationResult, Invoke } from '../invocations/invocation.js';
import { JobTable } from '../jobs/job-table.js';
import { JobWaiters } from '../jobs/job-waiters.js';
import { Jobs } from '../jobs/jobs.js';
import { createRunJob } from '../jobs/run-job.js';
import { LogCapture } from '../logs/log-capture.js';
import { LogFeed } from '../logs/log-feed.js';
import { LogTable } from '../logs/log-table.js';
import { MetricTable } from '../metrics/metric-table.js';
import { Metrics } from '../metrics/metrics.js';
import { ProjectOverview } from '../metrics/project-overview.js';
import { getNode, listNodes } from '../nodes/list-nodes.js';
import { NodeEvents } from '../nodes/node-events.js';
import { NodeRegistry } from '../nodes/node-registry.js';
import { NodeStore } from '../nodes/node-store.js';
import { DueTicks } from '../schedules/due-ticks.js';
import { ScheduleTable } from '../schedules/schedule-table.js';
import { ScheduleTicker } from '../schedules/schedule-ticker.js';
import { Schedules } from '../schedules/schedules.js';
import { TickHistory } from '../schedules/tick-history.js';
import { createDrainSystem } from '../scheduling/drain-system.js';
import { AddressPolicy } from '../webhooks/address-policy.js';
import { WebhookSender } from '../webhooks/webhook-sender.js';
import { asyncRoutes } from './async-routes.js';
import { BodyBudget } from './body-budget.js';
import { buildRoutes } from './build-routes.js';
import { concurrencyRoutes } from './concurrency-routes.js';
import { createApi } from './create-api.js';
import { executionRoutes } from './execution-routes.js';
import { fleetRoutes } from './fleet-routes.js';
import { functionRoutes } from './function-routes.js';
import { HttpServer } from './http-server.js';
import { InvokeOnce } from './invoke-once.js';
import { jobRoutes } from './job-routes.js';
import { logRoutes } from './log-routes.js';
import { metricRoutes } from './metric-routes.js';
import { nodeRoutes } from './node-routes.js';
import { createRequestListener } from './request-listener.js';
import { scheduleRoutes } from './schedule-routes.js';

type Answer = Partial<InvocationResult>;
type Behaviour = (request: InvocationRequest, spec: VersionSpec) => Answer | Promise<Answer>;

/** The HTTP side on a real server and a real database; nodes are replaced by a function of the test. */
export interface TestControlPlane {
  readonly url: string;
  readonly port: number;
  readonly key: string;
  readonly postgres: TestPostgres;
  readonly versions: VersionCache;
  readonly capture: LogCapture;
  readonly feed: LogFeed;
  readonly api: ReturnType<typeof createApi>;
  /** Where a test adds the nodes that build. */
  readonly registry: NodeRegistry;
  readonly builds: BuildTable;
  /** Requests that reached `invoke`, oldest first. */
  readonly invoked: { request: InvocationRequest; spec: VersionSpec }[];
  readonly forgotten: string[];
  /** What the next invocations answer; code checks succeed unless `behave.check` says otherwise. */
  readonly behave: { invocation: Behaviour; check: Behaviour };
  /** Sends JSON with the key and reads JSON. */
  call(method: string, path: string, body?: unknown): Promise<{ status: number; body: Record<string, unknown> }>;
  close(): Promise<void>;
}

export async function startTestControlPlane(): Promise<TestControlPlane> {
  const log = pino({ level: 'silent' });
  const postgres = await startTestPostgres();
  const { database } = postgres;
  const listener = new NotificationListener(database, log);
  const functions = new FunctionTable(database);
  const versions = new VersionCache(functions, listener);
  listener.start();
  const artifacts = new PostgresArtifactStore(database);
  const keys = new ApiKeys(database);
  const key = await keys.create('default', 'test');
  const logs = new LogTable(database);
  const feed = new LogFeed();
  const capture = new LogCapture();
  const metrics = new Metrics();
  const budget = new BodyBudget(256 * 1024 * 1024);
  const stopping = new AbortController();

  const invoked: { request: InvocationRequest; spec: VersionSpec }[] = [];
  const forgotten: string[] = [];
  const behave: TestControlPlane['behave'] = {
    invocation: (request) => ({ body: request.payload }),
    check: () => ({}),
  };
  const invoke: Invoke = async (version, request) => {
    invoked.push({ request, spec: version.spec });
    const node = { nodeId: 'node-1', bootId: 'boot-1' };
    const mayRun = (await request.beforeSend?.(node)) ?? true;
    const behaviour = request.kind === InvokeKind.CHECK ? behave.check : behave.invocation;
    const answer = mayRun ? await behaviour(request, version.spec) : ({ outcome: 'not_started' } as const);
    const totalMs = performance.now() - request.arrivedAt;
    const receipt = { start: 'warm' as const, resolveMs: request.resolveMs, runMs: 1.5, totalMs };
    return {
      id: request.id,
      outcome: 'success',
      version,
      body: Buffer.alloc(0),
      receipt,
      nodeId: 'node-1',
      attested: true,
      ...(request.kind === InvokeKind.HTTP && { http: { statusCode: 200, headers: [], cookies: [] } }),
      ...answer,
    };
  };
  const forgetVersions = (ids: readonly string[]): void => void forgotten.push(...ids);
  const waiters = new JobWaiters();
  const table = new JobTable(database);

  const executions = new ExecutionTable(database);
  const asyncSystem = createAsyncSystem({
    ...{ database, functions, executions, versions, invoke, log, concurrencyMax: 16 },
    webhooks: new WebhookSender(new AddressPolicy()),
    agent: () => undefined,
    onRequeued: () => Promise.resolve(),
    ready: () => true,
    limits: { queuedMax: 20, queuedBytesMax: 8 * 1024 * 1024 },
    jobs: {
      run: createRunJob({ table, artifacts, invoke, forgetVersions, logsStored: () => Promise.resolve() }),
      limits: { queuedMax: 20, queuedBytesMax: 8 * 1024 * 1024 },
      concurrencyMax: 6,
      onEnded: (id, status) => {
        metrics.observeJob(status);
        waiters.finished(id);
      },
    },
  });
  const jobs = new Jobs({ table, intake: asyncSystem.jobIntake, queue: asyncSystem.invocations, waiters });
  const due = new DueTicks(database, { queuedMax: 20, queuedBytesMax: 8 * 1024 * 1024 });
  const ticker = new ScheduleTicker(due, log);
  ticker.start();
  const scheduleTable = new ScheduleTable(database);
  const history = new TickHistory(database);
  const schedules = new Schedules({ table: scheduleTable, due, history, ticker, perProjectMax: 10 });

  const images = new ImageStore(database, artifacts);
  const deployer = new Deployer({ functions, artifacts, images, cache: versions, invoke, forgetVersions, log });
  const registry = new NodeRegistry({ onRoom: () => {}, onGone: () => {} });
  const nodes = new NodeStore(database);
  const draining = await createDrainSystem({
    ...{ database, notifications: listener, registry, store: nodes, log },
    loadFloors: async () => (await functions.listProvisioned()).map(resolvedVersionOf),
    loadNeeds: () => functions.listNeeds(),
    longestRunMs: (versionIds) => functions.longestRunMs(versionIds),
    isolationOf: () => 'runc',
    onChanged: () => {},
  });
  const builds = new BuildTable(database);
  const buildFeed = new BuildFeed();
  const buildLogs = new BuildLogs({
    insert: (lines) => builds.appendLines(lines),
    onCommitted: (id) => buildFeed.changed(id),
    log,
  });
  const buildRunner = new BuildRunner({
    ...{ table: builds, logs: buildLogs, feed: buildFeed, artifacts, deployer, registry, log },
    imageBytesMax: 1024 * 1024,
  });
  const once = new InvokeOnce({ database, invoke, queueBudgetMs: 10_000, log, storeWaitMs: 500 });
  let port = 0;
  const api = createApi({
    keys,
    log,
    observeHttp: metrics.observeHttp,
    routes: [
      ...fleetRoutes({
        listNodes: () => listNodes(nodes, registry),
        readiness: () => Promise.resolve({ ready: false, leaving: false, waitingFor: ['nodes'] }),
        registry: metrics.registry,
      }),
      ...nodeRoutes({
        getNode: (projectId, nodeId) => getNode(nodes, registry, projectId, nodeId),
        ...{ events: new NodeEvents(database), drains: draining.drains, budget },
      }),
      ...functionRoutes({
        functions,
        deployer,
        testRuns: { artifacts, invoke, forgetVersions, logs: capture },
        budget,
        functionUrl: (name) => functionUrl(name, { domain: 'localhost', apiUrl: `http://localhost:${port}` }),
      }),
      ...concurrencyRoutes({ concurrency: new ConcurrencySettingsTable(database, 1_000), budget }),
      ...buildRoutes({ runner: buildRunner, table: builds, feed: buildFeed, budget, stopping: stopping.signal }),
      ...logRoutes({ functions, logs, feed, stopping: stopping.signal }),
      ...executionRoutes({ executions, asyncInvocations: asyncSystem.invocations, logs }),
      ...asyncRoutes({
        ...{ asyncInvocations: asyncSystem.invocations, deadLetters: asyncSystem.deadLetters },
        ...{ settings: asyncSystem.settings, replays: asyncSystem.replays, budget },
      }),
      ...metricRoutes({
        ...{ functions, metrics: new MetricTable(database), overview: new ProjectOverview(database) },
        listNodes: () => listNodes(nodes, registry),
      }),
      ...jobRoutes({ jobs, executions, logs, budget }),
      ...scheduleRoutes({ schedules, budget }),
    ],
  });
  const server = new HttpServer(
    createRequestListener({
      ...{
        api,
        keys,
        versions,
        invoke,
        once,
        asyncInvocations: asyncSystem.invocations,
        budget,
        log,
        observeHttp: metrics.observeHttp,
      },
      hosts: { domains: ['localhost', 'fn.example.org'], apiHosts: ['api.example.org'] },
    }),
  );
  port = (await server.listen(0, '127.0.0.1')).port;
  const url = `http://127.0.0.1:${port}`;

  return {
    ...{ url, port, key, postgres, versions, capture, feed, api, registry, builds, invoked, forgotten, behave },
    async call(method, path, body) {
      const response = await fetch(url + path, {
        method,
        headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      const text = await response.text();
      return { status: response.status, body: text === '' ? {} : JSON.parse(text) };
    },
    async close() {
      stopping.abort();
      waiters.close();
      await server.close(1_000);
      await once.close();
      await asyncSystem.close();
      await ticker.close();
      await buildRunner.close();
      draining.close();
      registry.close();
      await buildLogs.close();
      await listener.close();
      await postgres.close();
    },
  };
}
