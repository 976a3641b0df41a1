import { request } from 'node:http';
import { defaultDockerHost, parseDockerHost } from '@lambda-fleet/common/docker-host';

const CALL_DEADLINE_MS = 3_000;

/** Whether an engine answers at `dockerHost` (a DOCKER_HOST; default the usual socket). */
export async function engineAnswers(dockerHost: string | undefined): Promise<boolean> {
  return (await status(dockerHost, '/_ping')) === 200;
}

export async function engineHasImage(dockerHost: string | undefined, name: string): Promise<boolean> {
  return (await status(dockerHost, `/images/${name}/json`)) === 200;
}

/** The status of a GET, or undefined when there is no answer in time. */
function status(dockerHost: string | undefined, path: string): Promise<number | undefined> {
  const address = parseDockerHost(dockerHost ?? defaultDockerHost());
  if (address === undefined) return Promise.resolve(undefined);
  return new Promise((settle) => {
    const call = request({ ...address, path, signal: AbortSignal.timeout(CALL_DEADLINE_MS) }, (response) => {
      response.resume();
      settle(response.statusCode);
    });
    // No engine is an ordinary state of a machine; the caller says what follows from it.
    call.once('error', () => settle(undefined));
    call.end();
  });
}
