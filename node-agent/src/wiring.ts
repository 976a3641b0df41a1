import { randomUUID } from 'node:crypto';
import { arch, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { defaultDockerHost } from '@lambda-fleet/common/docker-host';
import type { Lifecycle } from '@lambda-fleet/common/lifecycle';
import type { Logger } from '@lambda-fleet/common/logger';
import { runtimeEntry } from '@lambda-fleet/runtime-node';
import type { AgentConfig } from './config.js';
import { leave } from './drain/leave.js';
import { NodeDrain } from './drain/node-drain.js';
import { type Host, openHost } from './host/open-host.js';
import { ownerOf } from './host/owner.js';
import { type OpenedIdentity, openIdentity } from './identity/open-identity.js';
import { Renewal } from './identity/renewal.js';
import { ImageBuilder, type ImageBuilderOptions } from './images/image-builder.js';
import { ImageEngine } from './images/image-engine.js';
import { LayerSender } from './images/layer-sender.js';
import type { FetchArtifact } from './invocations/invocation.js';
import { AgentLinks } from './link/agent-links.js';
import { fetchArtifactOver } from './link/fetch-artifact.js';
import type { AgentMetrics } from './metrics/agent-metrics.js';

const AGENT_VERSION = '0.1.0';
/** 2: several replicas, and leases. */
const PROTOCOL = { min: 1, max: 2 };

/** `runtimes/python/lambda_runtime`, from `src` as well as from `dist`. */
const PYTHON_RUNTIME = fileURLToPath(new URL('../../runtimes/python/lambda_runtime', import.meta.url));
const PROVIDED_INIT = fileURLToPath(new URL(`../../runtimes/provided/dist/init-${arch()}`, import.meta.url));

/** A node that builds and has little memory still runs something. */
const SANDBOX_BYTES_MIN = 128 * 1024 * 1024;

const BUILDER_CLOSE_MS = 6_000;

/** The runner may take 9 s to end its sandboxes. */
const RUNNER_CLOSE_MS = 10_000;

const LEAVE_MARGIN_MS = 2_000;

/** Builds the whole agent. `onWelcomed` runs each time a control plane has taken this node in. */
export async function wireAgent(
  config: AgentConfig,
  log: Logger,
  lifecycle: Lifecycle,
  onWelcomed: () => void,
): Promise<void> {
  const opened = await openIdentity({ tls: config.tls, dataDir: config.dataDir, join: config.join, log });
  const { identity } = opened;
  const { nodeId } = identity;
  // The cache fetches over the link, which is made from what the host offers.
  let fetchArtifact: FetchArtifact = () => {
    throw new Error('the link is not up yet');
  };
  const host = await openHost({
    nodeId,
    dataDir: config.dataDir,
    driver: config.driver,
    channelTransport: config.channelTransport,
    memoryBytes: sandboxMemoryBytes(config),
    slots: config.slots,
    blanks: config.blanks,
    fetchArtifact: (sha256) => fetchArtifact(sha256),
    dockerHost: config.dockerHost,
    nodeRuntime: runtimeEntry,
    pythonRuntime: PYTHON_RUNTIME,
    providedInit: PROVIDED_INIT,
    runtimeDir: config.runtimeDir,
    tmpDir: tmpdir(),
    imageBytesMax: config.imageBytesMax,
    trySandboxes: config.driver === 'docker',
    egress: config.egress ? {} : undefined,
    gvisor: config.gvisor,
    log,
  });
  const { runner } = host;
  const metrics = config.metricsPort === 0 ? undefined : await serveMetrics(host, config.metricsPort, log, lifecycle);
  const builder = await openBuilder(config, nodeId, {
    fetchArtifact: (sha256) => fetchArtifact(sha256),
    layers: new LayerSender((buildId) => bulkClient(buildId)),
    log,
  });
  const links = new AgentLinks({
    addresses: config.controlPlane,
    credentials: () => identity.credentials,
    hello: {
      protocolMin: PROTOCOL.min,
      protocolMax: PROTOCOL.max,
      agentVersion: AGENT_VERSION,
      bootId: randomUUID(),
      labels: { ...config.labels },
      runtimes: [...host.runtimes],
      // Read at each greeting.
      get isolation() {
        return [...host.driver.isolation];
      },
      architecture: arch(),
      get networks() {
        return [...host.driver.networks];
      },
      builds: builder !== undefined,
      get selfTest() {
        return host.selfTest();
      },
    },
    runner,
    builder,
    onWelcomed,
    onDrain: (message) => drain.receive(message),
    ...(metrics === undefined ? {} : { onEnded: metrics.observeEnd }),
    log,
  });
  fetchArtifact = fetchArtifactOver(links);
  const bulkClient = (buildId: string) => {
    const client = [...links.ready()].find((link) => link.gaveBuild(buildId))?.readySession?.bulkClient;
    if (client === undefined) throw new Error('the link to the control plane that gave the build is down');
    return client;
  };
  runner.onCapacityChange(() => links.capacityChanged());
  host.onOfferChange(() => links.greetAgain());
  host.onSelfTest(() => links.reportSelfTest(host.selfTest()));
  const drain: NodeDrain = new NodeDrain({ runner, link: links, lookForLeaks: () => host.lookForLeaks(), log });
  // Closed last: the ends of what the runner stops still have to be sent.
  lifecycle.onClose('links', () => links.close());
  lifecycle.onClose('sandboxes', () => host.close(), RUNNER_CLOSE_MS);
  if (builder !== undefined) lifecycle.onClose('builder', () => builder.close(), BUILDER_CLOSE_MS);
  const { leaveMs } = config;
  const leaving = () => leave({ runner, link: links, drain, leaveMs, hurried: lifecycle.hurried, log });
  // Closed first: what runs may still finish.
  lifecycle.onClose('leaving', leaving, leaveMs + LEAVE_MARGIN_MS);
  log.info(
    { node: nodeId, driver: host.driver.name, runtimes: host.runtimes.map(({ name }) => name) },
    'agent_started',
  );
  links.start();
  keepRenewed(opened, links, log, lifecycle);
}

/** Certificates that were given as files are looked after by whoever gave them. */
function keepRenewed({ identity, files }: OpenedIdentity, links: AgentLinks, log: Logger, lifecycle: Lifecycle): void {
  if (files === undefined) return;
  const renewal = new Renewal({ identity, files, replicas: () => links.replicas(), log });
  lifecycle.onClose('renewal', () => renewal.close());
  renewal.start();
}

async function serveMetrics(host: Host, port: number, log: Logger, lifecycle: Lifecycle): Promise<AgentMetrics> {
  // Imported here because most agents serve none.
  const [{ AgentMetrics }, { MetricsServer }] = await Promise.all([
    import('./metrics/agent-metrics.js'),
    import('./metrics/metrics-server.js'),
  ]);
  const metrics = new AgentMetrics(() => host.figures());
  try {
    const server = await MetricsServer.listen(metrics.registry, port);
    lifecycle.onClose('metrics', () => server.close());
    log.info({ port }, 'metrics_served');
  } catch (err) {
    // A node is worth more than its figures.
    log.error({ err, port }, 'metrics_not_served');
  }
  return metrics;
}

/** What a build may use is not the sandboxes' to use. */
function sandboxMemoryBytes({ memoryBytes, builds }: AgentConfig): number {
  return Math.max(SANDBOX_BYTES_MIN, memoryBytes - (builds?.memoryBytes ?? 0));
}

/** Undefined where the operator has not allowed builds. Rejects where they were allowed and cannot be. */
async function openBuilder(
  { builds, driver, dataDir, dockerHost }: AgentConfig,
  nodeId: string,
  over: Pick<ImageBuilderOptions, 'fetchArtifact' | 'layers' | 'log'>,
): Promise<ImageBuilder | undefined> {
  if (builds === undefined) return undefined;
  if (driver !== 'docker')
    throw new Error('LAMBDA_BUILDS=true needs LAMBDA_DRIVER=docker: a Docker engine builds the images');
  const engine = await ImageEngine.connect(dockerHost ?? defaultDockerHost());
  const { network, ...limits } = builds;
  const owner = await ownerOf(nodeId, dataDir);
  over.log.warn({ ...builds }, 'builds_allowed: steps of Dockerfiles run as root in containers, with a network');
  return ImageBuilder.open({ ...over, engine, directory: join(dataDir, 'builds'), owner, limits, network });
}
