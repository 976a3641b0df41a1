import { totalmem } from 'node:os';
import { availableMemoryBytes } from '../host/available-memory.js';
import { type Found, failed, isAtLeast, warning } from './check.js';

const MB = 1024 * 1024;
/** Two small sandboxes, and what an agent itself needs. */
const MEMORY_NEEDED_MB = 512;
const MEMORY_WANTED_MB = 1_024;

/** `version` as in `process.versions.node`. */
export function checkNode(version: string): Found {
  if (isAtLeast(version, [20, 19])) return version;
  return failed(`${version} is too old`, 'install Node 20.19 or newer');
}

/** `release` as `os.release()` says. */
export function checkKernel(platform: NodeJS.Platform, release: string): Found {
  if (platform !== 'linux') {
    return warning(
      `${platform} ${release}: containers run in a virtual machine`,
      'use Linux where functions of others run: here limits cannot change, nothing is frozen, and there is no egress network',
    );
  }
  if (isAtLeast(release, [4, 15])) return `Linux ${release}`;
  return failed(`Linux ${release} is too old`, 'use Linux 4.15 or newer; gVisor needs it');
}

export function checkUser(uid: number | undefined): Found {
  if (uid === 0) return 'root';
  return warning(
    `not root (uid ${uid ?? 'unknown'})`,
    'run the agent as root: else limits of running sandboxes cannot change, nothing is frozen, blanks serve one size of function, and there is no egress network',
  );
}

export function checkMemory(totalBytes = totalmem(), availableBytes = availableMemoryBytes()): Found {
  const totalMb = Math.round(totalBytes / MB);
  if (availableBytes === undefined) return `${totalMb} MB`;
  const availableMb = Math.round(availableBytes / MB);
  const detail = `${availableMb} of ${totalMb} MB are available`;
  if (availableMb < MEMORY_NEEDED_MB) {
    return failed(detail, `free some: an agent and two small sandboxes need ${MEMORY_NEEDED_MB} MB`);
  }
  if (availableMb < MEMORY_WANTED_MB) return warning(detail, 'set LAMBDA_MEMORY_MB to what sandboxes may really have');
  return detail;
}
