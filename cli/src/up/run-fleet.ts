import { rm } from 'node:fs/promises';
import { createLogger } from '@lambda-fleet/common/logger';
import { CliError } from '../cli-error.js';
import { EXIT } from '../exit-codes.js';
import type { Output } from '../output.js';
import type { Session } from '../session.js';
import { durationText, printable } from '../terminal-text.js';
import { type DataDir, discardTemporary, prepareDataDir } from './data-dir.js';
import { endpointOf } from './endpoint.js';
import { Fleet } from './fleet.js';
import type { FleetScripts, UpOptions } from './fleet-options.js';
import { type Lock, LockHeld, takeLock } from './lock.js';
import { checkHosts, freePort, takenPorts } from './ports.js';
import { socketDir } from './socket-dir.js';
import { type FleetStart, startFleet } from './start-fleet.js';
import { StopSignals } from './stop-signals.js';
import { type Failure, Supervisor } from './supervisor.js';

/** The children of a predecessor that was killed notice it and give up their ports within this time. */
const PORT_GRACE_MS = 8_000;

/**
 * Starts PostgreSQL, the control plane and the agents, keeps them running until
 * a signal comes or one of them cannot live, and stops them. Returns the exit status.
 */
export async function runFleet(session: Session, asked: UpOptions, scripts: FleetScripts): Promise<number> {
  const dataDir = await prepareDataDir(asked.dataDir);
  const options = await choosePorts(asked);
  try {
    if (dataDir.problem !== undefined) {
      session.output.warn(
        `${asked.dataDir} cannot be used (${dataDir.problem}). Everything is kept in the temporary directory ${dataDir.root} instead, and only until this ends.`,
      );
    }
    const lock = await lockDataDir(dataDir, options);
    try {
      await checkPorts(options, lock.tookOver ? PORT_GRACE_MS : 0);
      return await superviseFleet(session, options, dataDir, scripts);
    } finally {
      await lock.release();
    }
  } finally {
    await discardTemporary(dataDir);
  }
}

async function superviseFleet(
  session: Session,
  options: UpOptions,
  dataDir: DataDir,
  scripts: FleetScripts,
): Promise<number> {
  const { config, output } = session;
  const supervisor = new Supervisor({
    died: (name, exit, delayMs) =>
      output.warn(`${name} ${exit.how}; starting it again${delayMs === 0 ? '' : ` in ${durationText(delayMs)}`}.`),
    recovered: (name, downMs) => output.note(`${name} is back after ${durationText(downMs)}.`),
    deathsMax: config.deathsMax,
  });
  const signals = new StopSignals((signal) => {
    output.note(`${signal} again: killing everything. The next start cleans up what is left.`);
    supervisor.killAll();
    process.exit(EXIT.error);
  });
  const fleet = new Fleet(config, options, dataDir, scripts);
  const start: FleetStart = {
    session,
    options,
    dataDir,
    supervisor,
    fleet,
    log: createLogger('lambda-up', config.logLevel, fleet.log('lambda-up').fd),
    socketDir: await socketDir(dataDir.root, config.runtimeDir),
  };
  try {
    const ended = Promise.race([signals.requested, supervisor.failed]);
    const reason = (await Promise.race([ended, startFleet(start)])) ?? (await ended);
    if (typeof reason !== 'string') {
      explainFailure(reason, dataDir, output);
      return EXIT.error;
    }
    output.note(`\n${reason}: stopping …`);
    return EXIT.ok;
  } finally {
    await supervisor.stop();
    fleet.closeLogs();
    await rm(start.socketDir, { recursive: true, force: true });
    signals.dispose();
    output.note('Stopped.');
  }
}

async function choosePorts(asked: UpOptions): Promise<UpOptions> {
  const httpPort = asked.httpPort || (await freePort(asked.host));
  let grpcPort = asked.grpcPort || (await freePort('127.0.0.1'));
  while (grpcPort === httpPort) grpcPort = await freePort('127.0.0.1');
  return { ...asked, httpPort, grpcPort };
}

async function lockDataDir(dataDir: DataDir, options: UpOptions): Promise<Lock> {
  try {
    return await takeLock(dataDir.lock, endpointOf(options));
  } catch (err) {
    if (!(err instanceof LockHeld)) throw err;
    const { pid, endpoint } = err.holder;
    throw new CliError(`A \`lambda up\` runs on ${dataDir.root} already: pid ${pid}, ${printable(endpoint)}.`, {
      exitCode: EXIT.refused,
      next: `Use it, stop it with \`kill ${pid}\`, or start another with --data-dir, --http-port and --grpc-port.`,
    });
  }
}

async function checkPorts({ host, httpPort, grpcPort }: UpOptions, graceMs: number): Promise<void> {
  const taken = await takenPorts(
    [
      { port: httpPort, host, flag: '--http-port' },
      { port: grpcPort, host: '127.0.0.1', flag: '--grpc-port' },
    ],
    graceMs,
  );
  if (taken.length === 0) return;
  checkHosts(taken);
  const problems = taken.map(({ need, who, problem }) =>
    problem === undefined
      ? `Port ${need.port} is taken${who === undefined ? '' : ` by ${printable(who)}`}.`
      : `Port ${need.port} on ${need.host} cannot be listened on (${problem}).`,
  );
  const flags = taken.map(({ need }) => `${need.flag} ${need.port < 1_024 ? need.port + 8_000 : need.port + 1}`);
  throw new CliError(problems.join(' '), { next: `Choose another: lambda up ${flags.join(' ')}` });
}

function explainFailure({ name, exit }: Failure, dataDir: DataDir, output: Output): void {
  output.error(`${name} ${exit.how}, too often within a minute. Its last lines:`);
  for (const line of exit.lastLines) output.note(`  ${printable(line)}`);
  if (!dataDir.temporary) output.note(`  → All of them: ${dataDir.logs}`);
}
