import { access, readFile } from 'node:fs/promises';
import { relative } from 'node:path';
import { errorText } from '@lambda-fleet/common/errors';
import type { Logger } from '@lambda-fleet/common/logger';
import { Secret } from '@lambda-fleet/common/secret';
import { ApiClient } from '../api/client.js';
import { CliError, usageError } from '../cli-error.js';
import type { Output } from '../output.js';
import { findFunction } from '../project/upload-function.js';
import type { Session } from '../session.js';
import { durationText } from '../terminal-text.js';
import { chooseDriver } from './choose-driver.js';
import type { DataDir } from './data-dir.js';
import { deployExample, EXAMPLE_NAME } from './deploy-example.js';
import { endpointOf } from './endpoint.js';
import type { Fleet } from './fleet.js';
import type { UpOptions } from './fleet-options.js';
import { knownNodes } from './known-nodes.js';
import { postgresProgram } from './postgres-child.js';
import type { Supervisor } from './supervisor.js';
import { writeContext } from './write-context.js';

export interface FleetStart {
  readonly session: Session;
  readonly options: UpOptions;
  readonly dataDir: DataDir;
  readonly supervisor: Supervisor;
  readonly fleet: Fleet;
  readonly log: Logger;
  readonly socketDir: string;
}

/** A first start makes a database cluster and runs migrations, perhaps on a slow disk. */
const START_DEADLINE_MS = 120_000;

const BUILDS_NOTICE =
  'Builds are allowed: the steps of Dockerfiles that are deployed here run as ROOT in containers of this Docker engine, with a network, outside of every sandbox, and can use any image that the engine has. Give API keys to nobody whom you would not let use it.';
const BUILDS_NEED = 'Start Docker (or set DOCKER_HOST), or leave out --builds.';

/** The way from nothing to a fleet that answers. Resolves when everything serves; rejects when a step fails. */
export async function startFleet(start: FleetStart): Promise<undefined> {
  const { session, options, supervisor, fleet } = start;
  const { config, output } = session;
  const { driver, notice } = await chooseDriver(options.driver, config.dockerHost);
  if (notice !== undefined) output.warn(notice);
  if (options.builds === true) {
    if (driver !== 'docker') throw usageError('--builds needs Docker: its engine builds the images.', BUILDS_NEED);
    output.warn(BUILDS_NOTICE);
  }

  const databaseUrl = config.databaseUrl?.reveal() ?? (await startPostgres(start));
  await timed(output, 'Starting the control plane', async () => {
    await supervisor.start([await fleet.controlPlane(databaseUrl)], START_DEADLINE_MS);
  });
  const agents = options.nodes === 1 ? '1 node agent' : `${options.nodes} node agents`;
  await timed(output, `Starting ${agents} (driver ${driver})`, async () => {
    const known = await knownNodes(await clientOf(start));
    await supervisor.start(await fleet.agents(driver, known), START_DEADLINE_MS);
  });

  await leaveContexts(start);
  const hasExample = await ensureExample(start);
  await output.data(banner(start, hasExample));
  return undefined;
}

async function timed(output: Output, what: string, work: () => Promise<void>): Promise<void> {
  const startedAt = performance.now();
  const finish = output.step(what);
  await work();
  finish(durationText(performance.now() - startedAt));
}

async function startPostgres({ session, dataDir, supervisor, fleet, log, socketDir }: FleetStart): Promise<string> {
  let url = '';
  const isNew = await access(dataDir.postgres).then(
    () => false,
    () => true,
  );
  await timed(session.output, isNew ? 'Creating and starting PostgreSQL' : 'Starting PostgreSQL', async () => {
    const program = postgresProgram({
      dataDir: dataDir.postgres,
      socketDir,
      log,
      serverLog: fleet.log('postgres'),
      onStarted: (server) => {
        url = server.url;
      },
    });
    await supervisor.start([program], START_DEADLINE_MS);
  });
  return url;
}

/** One context beside the data, for commands run from here, and one for this user, for commands run from anywhere. */
async function leaveContexts({ session, options, dataDir, log }: FleetStart): Promise<void> {
  const endpoint = endpointOf(options);
  await writeContext(dataDir.context, { endpoint, apiKeyFile: 'api-key' });
  try {
    await writeContext(session.config.userContextFile, { endpoint, apiKeyFile: dataDir.apiKey });
  } catch (err) {
    // A read-only home: commands still find the fleet from its own folder.
    log.warn({ err, file: session.config.userContextFile }, 'user_context_not_written');
  }
}

/** Whether the example is there to try. Without it the fleet still works, so its failure ends nothing. */
async function ensureExample(start: FleetStart): Promise<boolean> {
  const { session, dataDir } = start;
  const client = await clientOf(start);
  const isDone = await access(dataDir.exampleDeployed).then(
    () => true,
    () => false,
  );
  try {
    if (!isDone) await deployExample(client, dataDir, session.output);
    return (await findFunction(client, EXAMPLE_NAME)) !== undefined;
  } catch (err) {
    session.output.warn(`The example could not be deployed: ${errorText(err)} The next start tries again.`);
    return false;
  }
}

async function clientOf({ options, dataDir }: FleetStart): Promise<ApiClient> {
  const apiKey = new Secret((await readApiKey(dataDir)).trim());
  return new ApiClient({ endpoint: new URL(endpointOf(options)), apiKey, source: dataDir.apiKey });
}

async function readApiKey(dataDir: DataDir): Promise<string> {
  try {
    return await readFile(dataDir.apiKey, 'utf8');
  } catch (err) {
    throw new CliError(`The control plane runs, but there is no API key in ${dataDir.apiKey}.`, {
      next: 'When DATABASE_URL names a database that was used before, put its key there.',
      cause: err,
    });
  }
}

function banner({ session, options, dataDir }: FleetStart, hasExample: boolean): string {
  const { bold } = session.output.colors;
  const endpoint = endpointOf(options);
  const here = (path: string) => {
    const short = relative(session.cwd, path);
    return short.startsWith('..') ? path : short;
  };
  const commands = hasExample
    ? [
        `curl "${endpoint.replace('://localhost', `://${EXAMPLE_NAME}.localhost`)}/?name=World"`,
        `npx lambda invoke ${EXAMPLE_NAME} --data '{"name":"World"}'`,
        `npx lambda logs ${EXAMPLE_NAME}`,
      ]
    : ['npx lambda deploy examples/greet', 'npx lambda ls', 'npx lambda --help'];
  return [
    '',
    bold('Lambda Fleet is running.'),
    '',
    `  URL      ${endpoint}`,
    `  API key  ${here(dataDir.apiKey)}`,
    `  Logs     ${here(dataDir.logs)}`,
    '',
    'Try:',
    ...commands.map((command) => `  ${command}`),
    '',
    'Ctrl-C stops everything; the data stays for the next start.',
    '',
  ].join('\n');
}
