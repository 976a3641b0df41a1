import { join } from 'node:path';
import { errorText } from '@lambda-fleet/common/errors';
import type { Logger } from '@lambda-fleet/common/logger';
import { DockerDriver } from '../drivers/docker/docker-driver.js';
import type { ChannelTransport } from '../drivers/docker/engine-location.js';
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
    driver = await DockerDriver.open({ nodeId: 'doctor', owner, dockerHost, channelTransport, log });
  } catch (err) {
    yield await check('sandboxes', () => failed(errorText(err), 'see the lines above'));
    return;
  }
  try {
    await driver.removeLeftovers();
    for (const network of driver.networks) {
      for (const isolation of driver.isolation) {
        const name = network === 'none' ? `${isolation} sandbox` : `${isolation} ${network}`;
        if (signal.aborted) return;
        yield await check(name, () => tryKind({ driver, places, isolation, network, signal }));
      }
    }
  } finally {
    await driver.removeLeftovers();
  }
}

async function tryKind(kind: Omit<TrialOptions, 'runtime'>): Promise<Found> {
  const { driver, isolation, network } = kind;
  const runtimes = (await driver.runtimes()).map(({ name }) => name);
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
