import { defaultDockerHost } from '@lambda-fleet/common/docker-host';
import { ImageEngine } from '../src/images/image-engine.js';

const REPOSITORIES = ['lambda-fleet/function', 'lambda-fleet/build'];

/** Notes the images that an engine has of functions and their builds. What is returned removes those that came since. */
export async function noteImages(host = process.env.DOCKER_HOST ?? defaultDockerHost()): Promise<() => Promise<void>> {
  const engine = await ImageEngine.connect(host);
  const names = async () => {
    const tags = await Promise.all(
      REPOSITORIES.map(async (repository) => (await engine.tagsOf(repository)).map((tag) => `${repository}:${tag}`)),
    );
    return tags.flat();
  };
  const before = new Set(await names());
  return async () => {
    for (const name of await names()) if (!before.has(name)) await engine.remove(name);
  };
}
