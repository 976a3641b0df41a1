import { accessSync, constants } from 'node:fs';
import { join } from 'node:path';
import { run } from './command.mjs';

const APT_DEADLINE_MS = 600_000;

/** Debian packages that a test run needs, each with its reason. */
const DEBIAN_PACKAGES = {
  dockerd: { package: 'docker.io', reason: 'the engine that runs functions in containers' },
  runsc: { package: 'runsc', reason: 'gVisor, which the private engine offers beside runc' },
  'redis-server': { package: 'redis-server', reason: 'the ledger that several control planes share' },
  'musl-gcc': { package: 'musl-tools', reason: 'compiles the static init that starts programs and container images' },
  nft: { package: 'nftables', reason: 'guards the network of functions that have one' },
  ip: { package: 'iproute2', reason: 'connects the network of functions with the world that tests make' },
  debootstrap: { package: 'debootstrap', reason: 'makes the base image where the engine reaches no registry' },
};

/**
 * Installs the packages of the given programs where they are missing. Resolves with what was done. Throws with
 * what to install when that cannot be done here.
 *
 * @param {readonly (keyof typeof DEBIAN_PACKAGES)[]} programs
 */
export async function installDebianPackages(programs) {
  const missing = programs.filter((program) => findProgram(program) === undefined);
  if (missing.length === 0) return 'present';
  const packages = missing.map((program) => DEBIAN_PACKAGES[program].package);
  if (process.getuid?.() !== 0) throw new Error(whatToInstall(missing, 'this is not root'));
  if (findProgram('apt-get') === undefined) throw new Error(whatToInstall(missing, 'there is no apt-get'));

  // In runlevel 1 packages start no service: a test run must not leave a Redis or an engine running on the machine.
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive', RUNLEVEL: '1' };
  for (const args of [['update'], ['install', '-y', '--no-install-recommends', ...packages]]) {
    process.stderr.write(`        apt-get ${args.join(' ')}\n`);
    const result = await run('apt-get', ['-q', '-o', 'DPkg::Lock::Timeout=120', ...args], {
      deadlineMs: APT_DEADLINE_MS,
      env,
      what: `apt-get ${args[0]}`,
    });
    // A stale index of one source need not matter: the installation says whether it does.
    if (!result.ok && args[0] === 'install') {
      throw new Error(`${whatToInstall(missing, `apt-get ended with ${result.ended}`)}\n${result.output}`);
    }
  }
  const still = missing.filter((program) => findProgram(program) === undefined);
  if (still.length > 0) throw new Error(whatToInstall(still, 'apt-get installed them but they are not on the PATH'));
  return `installed ${packages.join(', ')}`;
}

export function mayInstallPackages() {
  return process.getuid?.() === 0 && findProgram('apt-get') !== undefined;
}

function whatToInstall(programs, why) {
  const lines = programs.map((program) => {
    const { package: name, reason } = DEBIAN_PACKAGES[program];
    return `  ${name}: ${reason}`;
  });
  const command = `apt-get install ${programs.map((program) => DEBIAN_PACKAGES[program].package).join(' ')}`;
  return [
    `These Debian packages are needed and were not installed, because ${why}:`,
    ...lines,
    `Install them: ${command}`,
  ].join('\n');
}

/** Path of a program, also in the directories that only root's PATH has. */
export function findProgram(name) {
  const folders = [...(process.env.PATH ?? '').split(':'), '/usr/sbin', '/sbin'];
  return folders
    .filter((folder) => folder !== '')
    .map((folder) => join(folder, name))
    .find((path) => {
      try {
        accessSync(path, constants.X_OK);
        return true;
      } catch {
        // Not there, or not ours to run: the next folder.
        return false;
      }
    });
}
