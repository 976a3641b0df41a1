import { defaultDockerHost } from '@lambda-fleet/common/docker-host';
import { imageName, RUNTIME_IMAGES } from '@lambda-fleet/runtime-images/image-set';
import { CliError } from '../cli-error.js';
import { engineAnswers, engineHasImage } from './docker-engine.js';

export interface DriverChoice {
  readonly driver: 'docker' | 'process';
  /** What a person must know about it, one line. */
  readonly notice: string | undefined;
}

const BUILD_IMAGES = 'npm start (it builds them) or node runtimes/images/dist/build-images.js';

/**
 * `auto` is decided once, here: an engine that goes away later is a fault that
 * is reported, never a reason to run functions without isolation.
 */
export async function chooseDriver(
  asked: 'auto' | 'docker' | 'process',
  dockerHost: string | undefined,
): Promise<DriverChoice> {
  if (asked === 'process') return { driver: 'process', notice: withoutIsolation('as asked with --driver process') };
  const engine = await engineAnswers(dockerHost);
  const images = engine && (await anyImage(dockerHost));
  if (images) return { driver: 'docker', notice: undefined };
  const where = dockerHost ?? defaultDockerHost();
  if (asked === 'docker') {
    throw engine
      ? new CliError(`The Docker engine at ${where} has no runtime images.`, { next: `Build them: ${BUILD_IMAGES}` })
      : new CliError(`No Docker engine answers at ${where}.`, {
          next: 'Start Docker, set DOCKER_HOST, or run functions without isolation: --driver process',
        });
  }
  return {
    driver: 'process',
    notice: engine
      ? withoutIsolation(`the Docker engine has no runtime images; build them: ${BUILD_IMAGES}`)
      : withoutIsolation('no Docker engine answers; start Docker (or set DOCKER_HOST) and start again to isolate them'),
  };
}

function withoutIsolation(why: string): string {
  return `Functions run WITHOUT isolation, as plain processes of this machine: ${why}.`;
}

async function anyImage(dockerHost: string | undefined): Promise<boolean> {
  const present = await Promise.all(
    RUNTIME_IMAGES.map(({ runtime }) => {
      const { repo, tag } = imageName(runtime);
      return engineHasImage(dockerHost, `${repo}:${tag}`);
    }),
  );
  return present.includes(true);
}
