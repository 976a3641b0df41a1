import { arch } from 'node:os';
import { isRuntimeName } from '@lambda-fleet/common/runtime-names';
import type { VersionSpec } from '@lambda-fleet/proto';
import type { Isolation, Network } from '../drivers/sandbox-driver.js';
import type { SandboxShape } from '../sandboxes/sandbox-shape.js';

/** What this node can start. */
export interface HostOffer {
  readonly runtimes: ReadonlySet<string>;
  readonly isolation: readonly Isolation[];
  readonly networks: readonly Network[];
}

/** The isolation that is asked for, the node's first where nothing is, or undefined where it has no such. */
export function isolationFor(offer: HostOffer, asked: string): Isolation | undefined {
  return asked === '' ? offer.isolation[0] : offer.isolation.find((kind) => kind === asked);
}

/** The sandbox that a version needs, or what this node lacks for it. */
export function shapeOf(spec: VersionSpec, isolation: Isolation, offer: HostOffer): SandboxShape | string {
  const { runtime, image, network: asked, concurrency } = spec;
  if (!isRuntimeName(runtime) || !offer.runtimes.has(runtime)) return `this node has no runtime ${runtime}`;
  if ((runtime === 'image') !== (image !== undefined)) return `the runtime ${runtime} and the code do not fit`;
  if (image !== undefined && image.architecture !== arch()) return `this node is no ${image.architecture}`;
  const network = asked === '' ? 'none' : offer.networks.find((kind) => kind === asked);
  if (network === undefined) return `this node has no network of the kind ${asked}`;
  const { versionId, egressHosts, memoryMb, cpus, timeoutMs, initTimeoutMs, keepAliveMs, keepRunning } = spec;
  return {
    ...{ versionId, runtime, image, isolation, network, egressHosts, memoryMb, cpus },
    ...{ timeoutMs, initTimeoutMs, keepAliveMs, keepRunning },
    concurrency: Math.max(1, concurrency),
  };
}
