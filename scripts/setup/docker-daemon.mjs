import { spawn, spawnSync } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { chmod, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { findProgram } from './debian-packages.mjs';
import { dockerClient, engineVersion } from './docker-client.mjs';
import { endProcess, processesWith } from './processes.mjs';

const START_DEADLINE_MS = 60_000;
const STOP_DEADLINE_MS = 30_000;

const ENGINE_PROGRAM = /^\S*\b(dockerd|containerd|containerd-shim\S*|runc|runsc\S*) /;

/** In a network namespace of its own, whose forwarding is switched on for sandboxes with a network. */
const START_SCRIPT = 'echo 1 > /proc/sys/net/ipv4/ip_forward && exec "$@"';

/**
 * @typedef {object} Daemon
 * @property {string} host value for DOCKER_HOST
 * @property {string} version such as `Docker 20.10.24`
 * @property {() => Promise<void>} stop removes its containers, ends it and removes `runDir`
 */

/**
 * Starts a dockerd that nobody else uses, in a network namespace of its own: with `--bridge=none` it would delete the
 * machine's docker0 otherwise. What an earlier one left in these directories is ended first. When this process is
 * killed, the kernel ends the daemon.
 *
 * @param {object} options
 * @param {string} options.runDir for sockets and settings; short, because a socket's path is limited to 107 bytes
 * @param {string} options.dataRoot for images; kept
 * @param {object} [options.runtimes] what it offers beside runc; default {@link gvisorRuntimes}
 * @param {boolean} [options.ownRules] lets it make firewall rules, in its own network namespace
 * @returns {Promise<Daemon>}
 */
export async function startDaemon({ runDir, dataRoot, runtimes, ownRules = false }) {
  await endDaemon(runDir, dataRoot);
  await mkdir(runDir, { recursive: true, mode: 0o711 });
  const config = join(runDir, 'daemon.json');
  const log = join(runDir, 'dockerd.log');
  const host = `unix://${join(runDir, 'docker.sock')}`;
  await mkdir(dataRoot, { recursive: true });
  await writeFile(config, JSON.stringify({ runtimes: runtimes ?? (await gvisorRuntimes(runDir)) }));
  const logFile = openSync(log, 'w');
  const daemon = spawn(
    'setpriv',
    [
      ...['--pdeathsig=TERM', 'unshare', '-n', 'sh', '-c', START_SCRIPT, 'sh', findProgram('dockerd') ?? 'dockerd'],
      ...['-H', host, '--data-root', dataRoot, '--exec-root', join(runDir, 'exec')],
      ...['--pidfile', join(runDir, 'docker.pid'), '--config-file', config, '--log-level=warn'],
      ...['--bridge=none', `--iptables=${ownRules}`, '--ip6tables=false', '--ip-forward=false', '--ip-masq=false'],
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
    // One that cannot be removed goes with the daemon.
    if (ended === undefined) await removeContainers(host).catch(() => {});
    await endDaemon(runDir, dataRoot);
    await rm(runDir, { recursive: true, force: true });
  };
  const until = performance.now() + START_DEADLINE_MS;
  while (ended === undefined && performance.now() < until) {
    const version = await engineVersion(host);
    if (version !== undefined) {
      await removeContainers(host);
      return { host, version, stop };
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  const lines = (await readFile(log, 'utf8')).trimEnd().split('\n').slice(-15).join('\n');
  await stop();
  throw new Error(`A private dockerd ${ended === undefined ? 'does not answer' : `ended with ${ended}`}:\n${lines}`);
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

/**
 * gVisor without KVM, whose sandboxes may open the unix sockets that are mounted into them: `runsc` without a network and
 * `runsc-egress` with one.
 */
async function gvisorRuntimes(runDir) {
  const path = findProgram('runsc');
  if (path === undefined) return {};
  const args = ['--platform=ptrace', '--fsgofer-host-uds'];
  return {
    runsc: { path, runtimeArgs: [...args, '--network=none'] },
    'runsc-egress': { path: await networkedRunsc(path, runDir), runtimeArgs: [...args, '--network=sandbox'] },
  };
}

/**
 * Releases of gVisor before August 2024 take a network namespace for the machine's own when
 * `/proc/sys/net/core/rmem_default` exists in it, as it does in all of them since Linux 6.11, and refuse to start. This wrapper
 * hides the folder from such a release.
 */
async function networkedRunsc(path, runDir) {
  const visible = spawnSync('unshare', ['-n', 'test', '-e', '/proc/sys/net/core/rmem_default']).status === 0;
  const { stdout } = spawnSync(path, ['--version'], { encoding: 'utf8' });
  const released = Number(/(20\d{6})/.exec(stdout ?? '')?.[1] ?? 0);
  if (!visible || released >= 20240801) return path;
  const wrapper = join(runDir, 'runsc-egress');
  const hide = `mount -t tmpfs -o ro none /proc/sys/net && exec ${path} "$@"`;
  await writeFile(wrapper, `#!/bin/sh\nexec unshare -m sh -c '${hide}' runsc "$@"\n`);
  await chmod(wrapper, 0o755);
  return wrapper;
}
