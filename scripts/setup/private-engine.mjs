import { spawn, spawnSync } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { findProgram } from './debian-packages.mjs';
import { dockerClient, engineVersion } from './docker-client.mjs';
import { endProcess, isSameProcess, processesWith, processStart } from './processes.mjs';

const SLOTS = [1, 2, 3, 4];
const START_DEADLINE_MS = 60_000;
const STOP_DEADLINE_MS = 30_000;

const ENGINE_PROGRAM = /^\S*\b(dockerd|containerd|containerd-shim\S*|runc|runsc\S*) /;

/** Sockets live under the first: their paths are limited to 108 bytes. Images live under the second, kept between runs. */
const runDirOf = (slot) => `/run/lambda-test-${slot}`;
const dataRootOf = (slot) => `/var/lib/lambda-fleet/test-docker-${slot}`;

/**
 * Starts a dockerd that nobody else uses, in a network namespace of its own: with `--bridge=none` it would delete the
 * machine's docker0 otherwise. Several test runs at once take different slots; a slot whose run was killed is
 * cleaned and taken again.
 *
 * @returns {Promise<import('./docker-engine.mjs').Engine>}
 */
export async function startPrivateEngine() {
  const slot = await takeSlot();
  const runDir = runDirOf(slot);
  const dataRoot = dataRootOf(slot);
  await endDaemon(runDir, dataRoot);

  const config = join(runDir, 'daemon.json');
  const log = join(runDir, 'dockerd.log');
  const host = `unix://${join(runDir, 'docker.sock')}`;
  await mkdir(dataRoot, { recursive: true });
  await writeFile(config, JSON.stringify({ runtimes: gvisor() }));
  const logFile = openSync(log, 'w');
  const daemon = spawn(
    // When this process is killed, the kernel ends the daemon.
    'setpriv',
    [
      '--pdeathsig=TERM',
      'unshare',
      '-n',
      findProgram('dockerd') ?? 'dockerd',
      ...['-H', host, '--data-root', dataRoot, '--exec-root', join(runDir, 'exec')],
      ...['--pidfile', join(runDir, 'docker.pid'), '--config-file', config, '--log-level=warn'],
      ...['--bridge=none', '--iptables=false', '--ip6tables=false', '--ip-forward=false', '--ip-masq=false'],
    ],
    { stdio: ['ignore', logFile, logFile], detached: true },
  );
  closeSync(logFile);
  let ended;
  daemon.once('error', (error) => {
    ended = error.message;
  });
  daemon.once('exit', (code, signal) => {
    ended = signal ?? `status ${code}`;
  });

  const stop = async () => {
    if (ended === undefined) await removeContainers(host);
    await endDaemon(runDir, dataRoot);
    await rm(runDir, { recursive: true, force: true });
  };
  const until = performance.now() + START_DEADLINE_MS;
  while (ended === undefined && performance.now() < until) {
    const version = await engineVersion(host);
    if (version !== undefined) {
      await removeContainers(host);
      return { host, description: `private ${version} at ${host}`, isPrivate: true, stop };
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  const lines = (await readFile(log, 'utf8')).trimEnd().split('\n').slice(-15).join('\n');
  await stop();
  throw new Error(`A private dockerd ${ended === undefined ? 'does not answer' : `ended with ${ended}`}:\n${lines}`);
}

/** Claims a slot that no running test run holds. */
async function takeSlot() {
  for (const slot of SLOTS) {
    const ownerFile = join(runDirOf(slot), 'owner');
    await mkdir(runDirOf(slot), { recursive: true, mode: 0o711 });
    const owner = await readJson(ownerFile);
    if (owner !== undefined && isSameProcess(owner)) continue;
    await writeFile(ownerFile, JSON.stringify({ pid: process.pid, start: processStart(process.pid) }));
    return slot;
  }
  throw new Error(`${SLOTS.length} other test runs with private engines are running; wait for one to end.`);
}

/** Ends the daemon of that run directory, its containerd and shims, and undoes their mounts. */
async function endDaemon(runDir, dataRoot) {
  const pid = Number(await readFile(join(runDir, 'docker.pid'), 'utf8').catch(() => ''));
  const ours = () =>
    processesWith((commandLine) => ENGINE_PROGRAM.test(commandLine) && commandLine.includes(`${runDir}/`));
  if (pid > 0 && ours().some((process) => process.pid === pid)) await endProcess(pid, STOP_DEADLINE_MS);
  for (const { pid: rest } of ours()) await endProcess(rest, 1_000);
  const mounts = (await readFile('/proc/self/mountinfo', 'utf8'))
    .split('\n')
    .map((line) => line.split(' ')[4] ?? '')
    .filter((path) => path.startsWith(`${runDir}/`) || path.startsWith(`${dataRoot}/`));
  for (const path of mounts.reverse()) spawnSync('umount', ['-l', path]);
}

async function removeContainers(host) {
  const docker = await dockerClient(host);
  for (const { Id } of await docker.listContainers({ all: true })) {
    await docker.getContainer(Id).remove({ force: true, v: true, abortSignal: AbortSignal.timeout(STOP_DEADLINE_MS) });
  }
}

/** gVisor without KVM and without a network; its sandboxes may open the unix sockets that are mounted into them. */
function gvisor() {
  const path = findProgram('runsc');
  if (path === undefined) return {};
  return { runsc: { path, runtimeArgs: ['--platform=ptrace', '--network=none', '--fsgofer-host-uds'] } };
}

async function readJson(path) {
  try {
    return JSON.parse(await readFile(path, 'utf8'));
  } catch {
    // Absent, or cut off by the death of its writer: nobody holds the slot.
    return undefined;
  }
}
