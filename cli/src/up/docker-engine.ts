import { request } from 'node:http';

/** How to reach a Docker engine without TLS: what `node:http` needs. */
type Address = { readonly socketPath: string } | { readonly host: string; readonly port: number };

const CALL_DEADLINE_MS = 3_000;
const DEFAULT_HOST = 'unix:///var/run/docker.sock';

/** Whether an engine answers at `dockerHost` (a DOCKER_HOST; default the usual socket). */
export async function engineAnswers(dockerHost: string | undefined): Promise<boolean> {
  return (await status(dockerHost, '/_ping')) === 200;
}

export async function engineHasImage(dockerHost: string | undefined, name: string): Promise<boolean> {
  return (await status(dockerHost, `/images/${name}/json`)) === 200;
}

/** The status of a GET, or undefined when there is no answer in time. */
function status(dockerHost: string | undefined, path: string): Promise<number | undefined> {
  const address = parseDockerHost(dockerHost ?? DEFAULT_HOST);
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

/** Undefined for what only the docker command understands, such as ssh://. */
function parseDockerHost(text: string): Address | undefined {
  if (text.startsWith('unix://')) return { socketPath: text.slice('unix://'.length) };
  if (!/^(tcp|http):\/\//.test(text) || !URL.canParse(text)) return undefined;
  // As http, because URL reads host and port of special schemes only.
  const url = new URL(text.replace(/^tcp:/, 'http:'));
  return { host: url.hostname, port: Number(url.port || 2375) };
}
