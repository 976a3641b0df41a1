import { setTimeout as delay } from 'node:timers/promises';
import { Backoff } from '@lambda-fleet/common/backoff';
import { type ApiClient, ApiError, segment } from '../api/client.js';
import { readEventStream } from '../api/event-stream.js';
import { type BuildLine, type BuildResource, isBuild, isBuildLine } from '../api/resources.js';
import { CliError } from '../cli-error.js';
import { EXIT, exitCodeOf } from '../exit-codes.js';
import type { Output } from '../output.js';
import type { Definition } from '../project/lambda-json.js';
import { type Archive, findFunction, uploadBuild } from '../project/upload-function.js';
import { printable } from '../terminal-text.js';

export interface ImageDeploy {
  readonly client: ApiClient;
  readonly definition: Definition & { readonly name: string };
  /** The build context. */
  readonly context: Archive;
  readonly output: Output;
}

/** Steps 2 to 4 of a container image: upload, build with its output as it comes, check. Returns the function's URL. */
export async function deployImage({ client, definition, context, output }: ImageDeploy): Promise<string> {
  const uploaded = output.step('[2/4] Uploading');
  const build = await uploadBuild(client, definition, context);
  uploaded('done');
  const cancelled = cancelOnInterrupt(client, build, output);
  try {
    const ended = await followBuild(client, build, output);
    if (ended.state === 'cancelled') throw new CliError('The build was cancelled.', { exitCode: EXIT.refused });
    if (ended.error) {
      const { code, message } = ended.error;
      throw new CliError(printable(message), { exitCode: exitCodeOf(code) });
    }
    for (const warning of ended.warnings ?? []) output.warn(printable(String(warning)));
  } finally {
    cancelled.dispose();
  }
  const deployed = await findFunction(client, definition.name);
  if (deployed === undefined) {
    throw new CliError(`${definition.name} was deployed and has been removed since.`, { exitCode: EXIT.notFound });
  }
  return printable(deployed.url);
}

/** Ctrl-C cancels the build where it runs; a second one ends this command and leaves the build alone. */
function cancelOnInterrupt(client: ApiClient, { functionName, id }: BuildResource, output: Output) {
  const cancel = () => {
    output.note('Cancelling the build …');
    const path = `/api/functions/${segment(functionName)}/builds/${segment(id)}/cancel`;
    client.json({ method: 'POST', path }).catch((err: unknown) => {
      output.warn(`The build could not be cancelled: ${err instanceof Error ? err.message : String(err)}`);
    });
  };
  process.once('SIGINT', cancel);
  return { dispose: () => void process.off('SIGINT', cancel) };
}

/** Prints a build until it has ended, over reconnects, and returns it. */
async function followBuild(client: ApiClient, build: BuildResource, output: Output): Promise<BuildResource> {
  const path = `/api/functions/${segment(build.functionName)}/builds/${segment(build.id)}/logs`;
  const progress = new BuildProgress(output);
  const backoff = new Backoff({ firstMs: 250, capMs: 5_000 });
  const forever = new AbortController().signal;
  let after = 0;
  for (;;) {
    try {
      const stream = await client.stream({ method: 'GET', path, query: { follow: 'true', after } }, forever);
      stream.socket.setKeepAlive(true, 15_000);
      backoff.reset();
      for await (const { event, data } of readEventStream(stream)) {
        const value = JSON.parse(data) as unknown;
        if (event === 'log' && isBuildLine(value)) {
          progress.line(value);
          after = value.sequence;
        }
        if (event !== 'build' || !isBuild(value)) continue;
        progress.state(value);
        if (value.finishedAt !== null) return value;
      }
    } catch (err) {
      if (err instanceof ApiError && err.status < 500) throw err;
      output.note('The connection was lost; the build goes on. Connecting again …');
    }
    await delay(backoff.next());
  }
}

/** The two steps that the server does, with the builder's output in between. */
class BuildProgress {
  #checking = false;
  #finish: (result?: string) => void;

  constructor(private readonly output: Output) {
    this.#finish = output.step('[3/4] Building');
  }

  line({ text, stream }: BuildLine): void {
    const { colors } = this.output;
    const line = `  ${printable(text)}`;
    this.output.note(stream === 'platform' ? line : colors.dim(line));
  }

  state({ state, version }: BuildResource): void {
    if (!this.#checking && (state === 'checking' || state === 'succeeded')) {
      this.#checking = true;
      this.#finish('done');
      this.#finish = this.output.step('[4/4] Checking');
    }
    if (state === 'succeeded') this.#finish(`version ${version ?? '?'}, image`);
  }
}
