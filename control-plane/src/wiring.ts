import { randomUUID } from 'node:crypto';
import { setMaxListeners } from 'node:events';
import type { Lifecycle } from '@lambda-fleet/common/lifecycle';
import type { Logger } from '@lambda-fleet/common/logger';
import { AccountConcurrency } from './admission/account-concurrency.js';
import { ConcurrencyLimiter } from './admission/concurrency-limiter.js';
import { ConcurrencySettingsTable } from './admission/concurrency-settings.js';
import { ArtifactSweep } from './artifacts/artifact-sweep.js';
import { ImageStore } from './artifacts/image-store.js';
import { LayerStore } from './artifacts/layer-store.js';
import { PostgresArtifactStore } from './artifacts/postgres-artifact-store.js';
import { type AsyncSystem, createAsyncSystem } from './async/async-system.js';
import { ApiKeys } from './auth/api-keys.js';
import { ensureBootstrapKey } from './auth/bootstrap-key.js';
import { createBuildSystem } from './builds/build-system.js';
import type { ControlPlaneConfig } from './config.js';
import { Database } from './db/database.js';
import { loadSecret } from './db/load-secret.js';
import { migrateDatabase } from './db/migrate.js';
import { NotificationListener } from './db/notification-listener.js';
import { createEnrollment } from './enrollment/create-enrollment.js';
import { ExecutionSweep } from './executions/execution-sweep.js';
import { ExecutionTable } from './executions/execution-table.js';
import { Deployer } from './functions/deployer.js';
import { resolvedVersionOf } from './functions/function-record.js';
import { FunctionTable } from './functions/function-table.js';
import { VersionCache } from './functions/version-cache.js';
import { functionUrl } from './gateway/function-url.js';
import { startEnrollmentServer } from './grpc/enrollment-server.js';
import { startFleetServer } from './grpc/fleet-server.js';
import { createFleetService } from './grpc/fleet-service.js';
import { asyncRoutes } from './http/async-routes.js';
import { BodyBudget } from './http/body-budget.js';
import { buildRoutes } from './http/build-routes.js';
import { concurrencyRoutes } from './http/concurrency-routes.js';
import { createApi } from './http/create-api.js';
import { executionRoutes } from './http/execution-routes.js';
import { fleetRoutes } from './http/fleet-routes.js';
import { functionRoutes } from './http/function-routes.js';
import { HttpServer } from './http/http-server.js';
import { InvokeOnce } from './http/invoke-once.js';
import { jobRoutes } from './http/job-routes.js';
import { joinRoutes } from './http/join-routes.js';
import { LEAVE_MARGIN_MS, leave } from './http/leave.js';
import { logRoutes } from './http/log-routes.js';
import { metricRoutes } from './http/metric-routes.js';
import { nodeRoutes } from './http/node-routes.js';
import { createRequestListener } from './http/request-listener.js';
import { scheduleRoutes } from './http/schedule-routes.js';
import { insertExecutions } from './invocations/insert-executions.js';
import { createInvoke } from './invocations/invoke.js';
import { Journal } from './invocations/journal.js';
import { isAsyncTrigger } from './invocations/trigger.js';
import { recordUnclaimedResult } from './invocations/unclaimed-result.js';
import { JobSweep } from './jobs/job-sweep.js';
import { JobTable } from './jobs/job-table.js';
import { JobWaiters } from './jobs/job-waiters.js';
import { Jobs } from './jobs/jobs.js';
import { createRunJob } from './jobs/run-job.js';
import { createLogSystem } from './logs/log-system.js';
import { createMetricSystem } from './metrics/metric-system.js';
import { MetricTable } from './metrics/metric-table.js';
import { Metrics } from './metrics/metrics.js';
import { ProjectOverview } from './metrics/project-overview.js';
import { AttemptGrants } from './nodes/attempt-grants.js';
import { GivenAttempts } from './nodes/given-attempts.js';
import { LeaseTable } from './nodes/lease-table.js';
import { getNode, listNodes } from './nodes/list-nodes.js';
import { NodeEvents } from './nodes/node-events.js';
import { NodeLeases } from './nodes/node-leases.js';
import { NodeRegistry } from './nodes/node-registry.js';
import { NodeStore } from './nodes/node-store.js';
import { NodeTracker } from './nodes/node-tracker.js';
import { Readiness } from './nodes/readiness.js';
import { reconcileAttempts } from './nodes/reconcile-attempts.js';
import { refuseHello } from './nodes/refuse-hello.js';
import { ReplicaDirectory } from './nodes/replica-directory.js';
import { Revocations } from './nodes/revocations.js';
import { knowsLeases, sendWelcome } from './nodes/welcome.js';
import { createScheduleSystem } from './schedules/schedule-system.js';
import { chooseLedger } from './scheduling/choose-ledger.js';
import { ConnectedNodesView } from './scheduling/connected-nodes-view.js';
import { createDrainSystem } from './scheduling/drain-system.js';
import { IsolationPolicy } from './scheduling/isolation-policy.js';
import { Placement } from './scheduling/placement.js';
import { ProvisionedFloors } from './scheduling/provisioned-floors.js';
import { AddressPolicy } from './webhooks/address-policy.js';
import { WebhookSender } from './webhooks/webhook-sender.js';

/** Request bodies that are in memory together. */
const BODY_BYTES_MAX = 512 * 1024 * 1024;

/** Invocations that wait for a node: of one function, and of all. */
const WAITING = { perLaneMax: 500, totalMax: 5_000 };

/** Arguments of the queued jobs of one lane together. */
const QUEUED_ARGS_BYTES_MAX = 256 * 1024 * 1024;

const JOB_RETENTION = { days: 7, perProjectMax: 10_000 };

/** Agents renew theirs at two thirds of it. */
const CERTIFICATE_LIFETIME_MS = 24 * 3_600_000;

export interface RunningControlPlane {
  readonly httpPort: number;
  readonly grpcPort: number;
  /** Undefined where no machine can join. */
  readonly enrollPort: number | undefined;
}

/** Builds the whole control plane and starts to serve. */
export async function wireControlPlane(
  config: ControlPlaneConfig,
  log: Logger,
  lifecycle: Lifecycle,
): Promise<RunningControlPlane> {
  const databaseUrl = config.databaseUrl.reveal();
  await migrateDatabase({ url: databaseUrl, log });
  const database = new Database({ url: databaseUrl, log });
  lifecycle.onClose('database', () => database.close());
  const notifications = new NotificationListener(database, log);
  lifecycle.onClose('notifications', () => notifications.close());

  const keys = new ApiKeys(database);
  keys.start();
  lifecycle.onClose('keys', () => keys.close());
  if (config.apiKeyFile !== undefined) await ensureBootstrapKey(keys, config.apiKeyFile, log);
  const metrics = new Metrics();
  const functions = new FunctionTable(database);
  const versions = new VersionCache(functions, notifications);
  const artifacts = new PostgresArtifactStore(database);
  const artifactSweep = new ArtifactSweep(artifacts, log);
  lifecycle.onClose('artifact sweep', () => artifactSweep.close());
  const images = new ImageStore(database, artifacts);
  notifications.start();

  const logs = createLogSystem(database, config.logRetention, log);
  lifecycle.onClose('logs', () => logs.close());
  const journal = new Journal({ insert: (records) => insertExecutions(database, records), log });
  lifecycle.onClose('journal', () => journal.close());

  const figures = createMetricSystem(database, log);
  lifecycle.onClose('figures', () => figures.close());

  const onRoom = (): void => placement.roomChanged();
  const ledger = chooseLedger({ url: config.redisUrl, onRoom, log, lifecycle });
  const nodeStore = new NodeStore(database);
  const registry: NodeRegistry = new NodeRegistry({
    onRoom: (nodeId) => {
      const capacity = registry.session(nodeId)?.capacity;
      if (capacity === undefined) return;
      ledger.setCapacity(nodeId, { memoryBytes: capacity.memoryBytesTotal, slots: capacity.slotsTotal });
      placement.roomChanged();
    },
    onGone: (nodeId) => ledger.removeNode(nodeId),
  });
  const view = new ConnectedNodesView(registry, ledger);
  const isolation = new IsolationPolicy(config.isolationPolicy, view);
  const account = new AccountConcurrency(database, config.accountConcurrency, log);
  lifecycle.onClose('account concurrency', () => account.close());
  notifications.on('functions', () => account.functionsChanged());
  notifications.onRestored(() => account.functionsChanged());
  const unreservedOf = (projectId: string): number => account.unreservedOf(projectId);
  const placement: Placement = new Placement({ view, isolation, ledger, unreservedOf, queue: WAITING });
  const nodeEvents = new NodeEvents(database);
  const tracker = new NodeTracker({
    ...{ store: nodeStore, events: nodeEvents, log },
    onRecorded: () => leases.nodeKnown(),
  });
  lifecycle.onClose('node tracker', () => tracker.close());

  const loadFloors = async () => (await functions.listProvisioned()).map(resolvedVersionOf);
  const isolationOf = (asked: 'auto' | 'gvisor' | 'runc') => isolation.isolationOf(asked, performance.now());
  const floors = new ProvisionedFloors({ load: loadFloors, isolationOf, view, registry, log });
  lifecycle.onClose('provisioned floors', () => floors.close());
  notifications.on('functions', () => floors.functionsChanged());
  notifications.onRestored(() => floors.functionsChanged());

  const draining = await createDrainSystem({
    ...{ database, notifications, registry, store: nodeStore, loadFloors, isolationOf, log },
    loadNeeds: () => functions.listNeeds(),
    longestRunMs: (versionIds) => functions.longestRunMs(versionIds),
    onChanged: () => floors.nodesChanged(),
  });
  lifecycle.onClose('drains', () => draining.close());

  const invoke = createInvoke({
    limiter: new ConcurrencyLimiter(config.concurrencyMax),
    placement,
    registry,
    journal,
    queueBudgetMs: config.queueBudgetMs,
    onResult: (result, request) => {
      metrics.observeInvocation(result, request.trigger);
      figures.throttles.observe(result, request.trigger);
    },
    log,
  });

  const executions = new ExecutionTable(database);
  const jobTable = new JobTable(database);
  const jobWaiters = new JobWaiters();
  const forgetVersions = (ids: readonly string[]): void => registry.forgetVersions([...ids]);
  const logsStored = (): Promise<void> => logs.writer.caughtUp();
  const asyncSystem: AsyncSystem = createAsyncSystem({
    ...{ database, functions, executions, versions, invoke, log },
    webhooks: new WebhookSender(new AddressPolicy(config.webhookNetworks)),
    agent: (nodeId) => registry.session(nodeId),
    onRequeued: (nodeId) => draining.requeued(nodeId),
    ready: () => registry.size > 0,
    limits: config.asyncQueue,
    concurrencyMax: config.asyncConcurrencyMax,
    jobs: {
      run: createRunJob({ table: jobTable, artifacts, invoke, forgetVersions, logsStored }),
      limits: { queuedMax: config.jobs.queuedMax, queuedBytesMax: QUEUED_ARGS_BYTES_MAX },
      concurrencyMax: config.jobs.concurrencyMax,
      onEnded: (id, status) => {
        metrics.observeJob(status);
        jobWaiters.finished(id);
      },
    },
  });
  lifecycle.onClose('async invocations', () => asyncSystem.close());
  notifications.on('async', () => asyncSystem.runner.wake());

  const enrollment = createEnrollment({
    ...{ tls: config.tls, caKey: config.caKey, database, log },
    lifetimeMs: CERTIFICATE_LIFETIME_MS,
  });
  const revocations = new Revocations({ database, notifications, log });
  await revocations.start();
  lifecycle.onClose('revocations', () => revocations.close());
  // Of its own: leases are renewed however many statements wait elsewhere.
  const leaseDatabase = new Database({ url: databaseUrl, log, connectionsMax: 1 });
  lifecycle.onClose('lease database', () => leaseDatabase.close());
  const leases: NodeLeases = new NodeLeases({
    ...{ registry, table: new LeaseTable(leaseDatabase), timings: config.nodeLease, log },
    onLost: () => asyncSystem.nodesLost(),
  });
  lifecycle.onClose('node leases', () => leases.close());
  const directory = new ReplicaDirectory({
    database,
    address: config.advertisedGrpc,
    onChange: () => {
      for (const session of registry.sessions()) if (knowsLeases(session)) sendWelcome(session, replica);
    },
    log,
  });
  lifecycle.onClose('replica directory', () => directory.close());
  const replica = { id: randomUUID(), peers: directory.peers };
  await directory.beat();
  const grants = new AttemptGrants(await loadSecret(database, 'attempt-grant-key'));
  const given = new GivenAttempts(grants, log);
  const fleetServer = await startFleetServer(
    createFleetService({
      ...{ replica, registry, grants },
      events: {
        onCapacity: (session) => {
          registry.capacityChanged(session);
          floors.capacityReported();
        },
        onUnclaimedResult: (session, end) => {
          if (isAsyncTrigger(end.trigger)) asyncSystem.lateResults.receive(session, end);
          else if (given.accepts(session, end)) recordUnclaimedResult(journal, session, end);
          else session.acknowledge([end]);
        },
        onLogs: (session, batch) => logs.writer.append(session, given.accepted(session, batch)),
        onDrainProgress: (session, progress) => draining.progress(session, progress),
        onSelfTest: (session, checks) => tracker.selfTested(session, checks),
        onLeaving: (session, boundMs) => {
          tracker.leaving(session, boundMs);
          // The index has to know before the floors are counted: its place is taken by others from now on.
          registry.capacityChanged(session);
          floors.nodesChanged();
        },
        onClosed: (session, reason) => {
          registry.remove(session);
          floors.nodesChanged();
          tracker.disconnected(session, reason);
        },
      },
      readArtifact: (projectId, sha256) => artifacts.read(projectId, sha256),
      layers: new LayerStore(database, artifacts),
      revoked: revocations,
      renew: enrollment === undefined ? undefined : (node, request) => enrollment.renew(node, request),
      refuseHello: (hello) => refuseHello(hello, config.development),
      onWelcomed: (session) => {
        tracker.welcomed(session);
        void reconcileAttempts(database, session, log);
        draining.welcomed(session);
        floors.nodesChanged();
        asyncSystem.nodeConnected();
      },
      log,
    }),
    { host: config.grpcHost, port: config.grpcPort, tls: config.tls },
  );
  lifecycle.onClose('link server', () => fleetServer.close());
  lifecycle.onClose('nodes', () => registry.close());
  const enrollServer =
    enrollment &&
    (await startEnrollmentServer(enrollment, { host: config.grpcHost, port: config.enrollPort, tls: config.tls, log }));
  lifecycle.onClose('enrolment server', () => enrollServer?.close());

  const stopping = new AbortController();
  // Everyone who follows something listens.
  setMaxListeners(0, stopping.signal);
  const budget = new BodyBudget(BODY_BYTES_MAX);
  const executionSweep = new ExecutionSweep(database, config.executionRetention, log);
  lifecycle.onClose('execution sweep', () => executionSweep.close());
  const jobSweep = new JobSweep(database, JOB_RETENTION, log);
  lifecycle.onClose('job sweep', () => jobSweep.close());
  const jobs = new Jobs({
    ...{ table: jobTable, intake: asyncSystem.jobIntake, queue: asyncSystem.invocations, waiters: jobWaiters },
  });

  const scheduleSystem = createScheduleSystem(database, config.asyncQueue, log);
  lifecycle.onClose('schedules', () => scheduleSystem.close());

  const once = new InvokeOnce({ ...{ database, invoke, log }, queueBudgetMs: config.queueBudgetMs });
  lifecycle.onClose('idempotency keys', () => once.close());

  const readiness = new Readiness(database, registry);
  const deployer = new Deployer({ functions, artifacts, images, cache: versions, invoke, forgetVersions, log });
  const { imageBytesMax } = config;
  const builds = createBuildSystem({ database, artifacts, deployer, registry, imageBytesMax, log });
  lifecycle.onClose('builds', () => builds.close());
  let httpPort = config.httpPort;
  const nodesNow = () => listNodes(nodeStore, registry);
  const api = createApi({
    keys,
    log,
    observeHttp: metrics.observeHttp,
    routes: [
      ...fleetRoutes({
        listNodes: nodesNow,
        readiness: () => readiness.check(),
        registry: metrics.registry,
      }),
      ...joinRoutes({
        tokens: enrollment?.tokens,
        ports: { controlPlane: fleetServer.port, enroll: enrollServer?.port ?? 0 },
        removeNode: (projectId, nodeId) => revocations.revoke(projectId, nodeId),
        budget,
      }),
      ...nodeRoutes({
        getNode: (projectId, nodeId) => getNode(nodeStore, registry, projectId, nodeId),
        ...{ events: nodeEvents, drains: draining.drains, budget },
      }),
      ...functionRoutes({
        functions,
        deployer,
        testRuns: { artifacts, invoke, forgetVersions, logs: logs.capture },
        budget,
        functionUrl: (name) =>
          functionUrl(name, { domain: config.domain, apiUrl: `http://${config.domain}:${httpPort}` }),
      }),
      ...concurrencyRoutes({ concurrency: new ConcurrencySettingsTable(database, config.accountConcurrency), budget }),
      ...buildRoutes({ ...builds, budget, stopping: stopping.signal }),
      ...logRoutes({ functions, logs: logs.table, feed: logs.feed, stopping: stopping.signal }),
      ...executionRoutes({ executions, asyncInvocations: asyncSystem.invocations, logs: logs.table }),
      ...asyncRoutes({
        ...{ asyncInvocations: asyncSystem.invocations, deadLetters: asyncSystem.deadLetters },
        ...{ settings: asyncSystem.settings, replays: asyncSystem.replays, budget },
      }),
      ...metricRoutes({
        ...{ functions, metrics: new MetricTable(database), overview: new ProjectOverview(database) },
        listNodes: nodesNow,
      }),
      ...jobRoutes({ jobs, executions, logs: logs.table, budget }),
      ...scheduleRoutes({ schedules: scheduleSystem.schedules, budget }),
    ],
  });
  const server = new HttpServer(
    createRequestListener({
      api,
      keys,
      versions,
      invoke,
      once,
      asyncInvocations: asyncSystem.invocations,
      budget,
      log,
      observeHttp: metrics.observeHttp,
      hosts: { domains: [config.domain], apiHosts: [] },
    }),
  );
  httpPort = (await server.listen(config.httpPort, config.httpHost)).port;
  // Closed first: what is in progress still needs everything below it.
  const { delayMs, boundMs } = config.leave;
  const endFollowing = (): void => {
    stopping.abort();
    jobWaiters.close();
  };
  const leaving = { server, readiness, delayMs, boundMs, endFollowing, hurried: lifecycle.hurried };
  lifecycle.onClose('http server', () => leave(leaving), delayMs + boundMs + LEAVE_MARGIN_MS);
  const ports = { httpPort, grpcPort: fleetServer.port, enrollPort: enrollServer?.port };
  log.info({ http: httpPort, grpc: ports.grpcPort, enroll: ports.enrollPort }, 'control_plane_started');
  return ports;
}
