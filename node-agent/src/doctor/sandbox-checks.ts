import { join } from 'node:path';
import { errorText } from '@lambda-fleet/common/errors';
import type { Logger } from '@lambda-fleet/common/logger';
import { DockerDriver } from '../drivers/docker/docker-driver.js';
import type { ChannelTransport } from '../drivers/docker/engine-location.js';
import { RUNSC_EGRESS } from '../drivers/docker/gvisor/runsc-entry.js';
import type { Isolation } from '../drivers/sandbox-driver.js';
import { SandboxPlaces } from '../sandboxes/sandbox-directories.js';
import { runTrial, type TrialOptions } from '../trials/trial.js';
import { trialCode } from '../trials/trial-code.js';
import { type Check, check, type Found, failed, warning } from './check.js';

export interface SandboxCheckOptions {
  readonly dockerHost: string;
  readonly channelTransport: ChannelTransport;
  /** Nobody else's: everything that is made carries it. */
  readonly owner: string;
  /** A directory for what sandboxes need of the disk. */
  readonly place: string;
  readonly log: Logger;
  readonly signal: AbortSignal;
}

/** Starts a sandbox of every kind. */
export async function* checkSandboxes(options: SandboxCheckOptions): AsyncGenerator<Check> {
  const { dockerHost, channelTransport, owner, place, log, signal } = options;
  const places = new SandboxPlaces(join(place, 'sandboxes'), join(place, 'sockets'));
  await places.clear();
  let driver: DockerDriver;
  try {
    driver = await DockerDriver.open({ nodeId: 'doctor', owner, dockerHost, channelTransport, egress: {}, log });
  } catch (err) {
    yield await check('sandboxes', () => failed(errorText(err), 'see the lines above'));
    return;
  }
  try {
    await driver.removeLeftovers();
    yield await check('egress', () => checkEgress(driver));
    for (const network of driver.networks) {
      for (const isolation of driver.isolation) {
        const name = network === 'none' ? `${isolation} sandbox` : `${isolation} ${network}`;
        if (signal.aborted) return;
        yield await check(name, () => tryKind({ driver, places, isolation, network, signal }));
      }
    }
  } finally {
    await driver.removeLeftovers();
    await driver.close();
  }
}

function checkEgress({ networks, egressProblem = '', egressNetwork }: DockerDriver): Found {
  if (networks.includes('egress')) return `the network ${egressNetwork} could be made, and guarded by nftables`;
  return warning(`functions can have no network: ${egressProblem}`, egressAdvice(egressProblem));
}

function egressAdvice(problem: string): string {
  if (/\bnft\b/.test(problem)) return 'install nftables, or see why the kernel takes none of its rules';
  if (/\b(ip|nsenter)\b.*(cannot be run|installed)/.test(problem)) return 'install iproute2 and util-linux';
  if (problem.includes(RUNSC_EGRESS))
    return "add it to the engine's daemon.json as docs/sandboxes.md shows, or do without gVisor";
  return 'see docs/sandboxes.md for what an egress network needs';
}

async function tryKind(kind: Omit<TrialOptions, 'runtime'>): Promise<Found> {
  const { driver, isolation, network } = kind;
  const runtimes = (await driver.runtimes()).map(({ name }) => name).filter((name) => name !== 'image');
  const runtime = runtimes.find((name) => trialCode(name) !== undefined) ?? runtimes[0];
  if (runtime === undefined) return failed('no runtime image can be started', 'see images');
  try {
    const { bootMs, probed } = await runTrial({ ...kind, runtime });
    const detail = `a sandbox of ${runtime} connected after ${Math.round(bootMs)} ms`;
    if (!probed) return warning(`${detail}; nothing was run in it`, 'build the images of nodejs or python');
    return `${detail}, ${network === 'none' ? 'has no network' : 'reaches nothing that it may not'}, and is held to its memory`;
  } catch (err) {
    const problem = errorText(err);
    return failed(problem, adviceFor(problem, isolation));
  }
}

function adviceFor(problem: string, isolation: Isolation): string {
  if (problem.includes('cannot run with network enabled in root network namespace')) {
    return 'this release of gVisor takes every network of this kernel for the host’s: install one of August 2024 or later, or use --network=none where sandboxes have no network';
  }
  if (isolation === 'gvisor') {
    return 'see the log of the engine; try `runsc do true`, and another --platform';
  }
  return 'see the log of the engine';
}
