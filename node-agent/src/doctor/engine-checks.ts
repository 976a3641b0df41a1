import { RUNTIME_NAMES } from '@lambda-fleet/common/runtime-names';
import type { EngineClient, EngineDescription } from '../drivers/docker/engine-client.js';
import { type ChannelTransport, sharesKernel } from '../drivers/docker/engine-location.js';
import { inspectRunsc, RUNSC, runscVersion } from '../drivers/docker/gvisor/runsc-entry.js';
import { DEFAULT_IMAGE_PREFIX, RuntimeImages } from '../drivers/docker/runtime-images.js';
import { type Found, failed, fromFindings, isAtLeast, warning } from './check.js';

const VERSION_FLOOR = [20, 10];

export function checkEngine(dockerHost: string, engine: EngineDescription, answeredMs: number): Found {
  const detail = `Docker ${engine.version} at ${dockerHost} answered in ${Math.round(answeredMs)} ms`;
  if (!isAtLeast(engine.version, VERSION_FLOOR)) {
    return failed(detail, `install Docker ${VERSION_FLOOR.join('.')} or newer`);
  }
  if (!sharesKernel(engine.operatingSystem, process.platform)) {
    return warning(
      `${detail}; its containers run in a virtual machine (${engine.operatingSystem})`,
      'see docs/sandboxes.md for what differs there',
    );
  }
  return detail;
}

export function checkLimits({ limits, limitsSwap, cgroups }: EngineDescription): Found {
  const missing = Object.entries(limits).flatMap(([limit, works]) => (works ? [] : [limit]));
  const detail = `cgroup driver ${cgroups.driver}, version ${cgroups.version}`;
  if (missing.length > 0) {
    return failed(`${detail}: it cannot limit ${missing.join(', ')}`, 'enable these cgroup controllers in the kernel');
  }
  if (!limitsSwap) {
    return warning(
      `${detail}: it cannot limit swap`,
      'switch swap off, or boot with swapaccount=1: else a sandbox may use twice its memory',
    );
  }
  return `${detail}; memory, swap, processors and processes can be limited`;
}

export async function checkImages(engine: EngineClient, prefix = DEFAULT_IMAGE_PREFIX): Promise<Found> {
  const present = (await new RuntimeImages(engine, prefix).present()).map(({ name }) => name);
  const missing = RUNTIME_NAMES.filter((name) => !present.includes(name));
  const advice = 'build them: node runtimes/images/dist/build-images.js';
  if (present.length === 0) return failed('no runtime images', advice);
  if (missing.length > 0) return warning(`${present.join(', ')}; without ${missing.join(', ')}`, advice);
  return present.join(', ');
}

/** Whether sandboxes of this engine open a socket of the host: what `auto` stands for, as the driver decides it. */
export function usesHostSockets(engine: EngineDescription, transport: ChannelTransport): boolean {
  return transport === 'socket' || (transport === 'auto' && sharesKernel(engine.operatingSystem, process.platform));
}

export async function checkRunsc(engine: EngineDescription, hostSockets: boolean): Promise<Found> {
  const entry = engine.runtimes.get(RUNSC);
  if (entry === undefined) {
    return warning(
      `the engine has no runtime ${RUNSC}: gVisor is not offered`,
      `install gVisor, and add it to the engine's daemon.json with ${hostSockets ? '--network=none --host-uds=open' : '--network=none'}`,
    );
  }
  const here = sharesKernel(engine.operatingSystem, process.platform);
  const findings = await inspectRunsc(entry, { network: 'none', hostSockets }, here);
  const version = here ? await runscVersion(entry.path).catch(() => undefined) : undefined;
  const command = [entry.path, ...entry.args].join(' ');
  return fromFindings(version === undefined ? command : `${version}, ${command}`, findings);
}
