import { chmod, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Logger } from '@lambda-fleet/common/logger';
import { isReachable } from './reachable.js';

const SHARED_ROOT = '/var/lib/lambda-fleet';

export interface WorkDirOptions {
  readonly dataDir: string;
  readonly owner: string;
  /** Sandboxes read their code as an unprivileged user through the host's own folders (the process driver, as root). */
  readonly readByOthers: boolean;
  readonly log: Logger;
}

/**
 * Where artifacts and sandboxes of this agent live: its data directory, unless sandboxes run as a user who cannot reach
 * that, such as inside a private home.
 */
export async function openWorkDir(options: WorkDirOptions): Promise<string> {
  if (!options.readByOthers || (await isReachable(options.dataDir))) return options.dataDir;
  const workDir = join(SHARED_ROOT, options.owner);
  await mkdir(workDir, { recursive: true });
  await chmod(SHARED_ROOT, 0o711);
  await chmod(workDir, 0o755);
  if (!(await isReachable(workDir))) {
    throw new Error(
      `Functions run as an unprivileged user, which can reach neither ${options.dataDir} nor ${workDir}. Choose a data directory outside of private folders.`,
    );
  }
  options.log.info({ workDir, dataDir: options.dataDir }, 'work_dir_outside_data_dir');
  return workDir;
}
