import { access, constants, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Found, failed, isAtLeast, warning } from './check.js';

const ROOT = '/sys/fs/cgroup';
/** Controllers of version 1 whose files an agent writes while sandboxes run. */
const VERSION_1 = ['memory', 'cpu', 'freezer'];
const VERSION_1_READ = ['cpuacct', 'pids'];

/** Whether the limits of running sandboxes can be read and changed, and sandboxes frozen. `root` is for tests. */
export async function checkCgroups(release: string, root = ROOT): Promise<Found> {
  const controllers = await readFile(join(root, 'cgroup.controllers'), 'utf8').catch(() => undefined);
  return controllers === undefined ? await checkVersion1(root) : await checkVersion2(root, controllers, release);
}

async function checkVersion1(root: string): Promise<Found> {
  const missing = await absent(root, [...VERSION_1, ...VERSION_1_READ], constants.F_OK);
  if (missing.length > 0) {
    return failed(`no cgroup controllers ${missing.join(', ')} in ${root}`, 'enable them in the kernel, or mount them');
  }
  const closed = await absent(root, VERSION_1, constants.W_OK);
  if (closed.length > 0) return notWritable(`version 1, ${closed.join(', ')}`);
  return 'version 1, writable, with freezer';
}

async function checkVersion2(root: string, controllers: string, release: string): Promise<Found> {
  const present = controllers.trim().split(' ');
  const missing = ['memory', 'cpu', 'pids'].filter((name) => !present.includes(name));
  if (missing.length > 0)
    return failed(`version 2 without ${missing.join(', ')}`, 'enable these controllers in the kernel');
  if ((await absent(root, ['cgroup.procs'], constants.W_OK)).length > 0) return notWritable('version 2');
  if (!isAtLeast(release, [5, 2])) {
    return warning('version 2, writable, without freezer', 'use Linux 5.2 or newer: idle sandboxes go on running here');
  }
  return 'version 2, writable, with freezer';
}

function notWritable(what: string): Found {
  return warning(
    `${what} cannot be written`,
    'run the agent as root, and with writable cgroups when it runs in a container: else limits cannot change and nothing is frozen',
  );
}

async function absent(root: string, names: readonly string[], mode: number): Promise<readonly string[]> {
  const found = await Promise.all(
    names.map((name) =>
      access(join(root, name), mode).then(
        () => true,
        () => false,
      ),
    ),
  );
  return names.filter((_, index) => found[index] !== true);
}
