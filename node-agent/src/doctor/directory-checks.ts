import { access, constants, link, mkdtemp, rm, rmdir, statfs, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { errorText } from '@lambda-fleet/common/errors';
import { shortageOf } from '../artifacts/disk-shortage.js';
import { openSocketRoot, type SocketRootOptions } from '../host/socket-root.js';
import { type Found, failed, warning } from './check.js';

const MB = 1024 * 1024;
/** One large function, packed and unpacked. */
const DISK_NEEDED_MB = 512;
const FILES_NEEDED = 20_000;

export async function checkDataDir(dataDir: string): Promise<Found> {
  const folder = await existing(dataDir);
  try {
    const probe = await mkdtemp(join(folder, '.lambda-doctor-'));
    try {
      await writeFile(join(probe, 'file'), '');
      await link(join(probe, 'file'), join(probe, 'link'));
    } catch (err) {
      return warning(
        `${folder} takes no hard links (${errorText(err)}): code is copied into each sandbox`,
        'use another filesystem',
      );
    } finally {
      await rm(probe, { recursive: true, force: true });
    }
  } catch (err) {
    return failed(
      `${folder} cannot be written: ${errorText(err)}`,
      'choose another with --data-dir, or change its owner',
    );
  }
  return folder === resolve(dataDir) ? folder : `${resolve(dataDir)} will be made in ${folder}`;
}

export async function checkDisk(dataDir: string): Promise<Found> {
  const use = await statfs(await existing(dataDir));
  const freeMb = Math.floor((use.bavail * use.bsize) / MB);
  const totalMb = Math.floor((use.blocks * use.bsize) / MB);
  const files = use.files > 0 ? `, ${use.ffree} of ${use.files} inodes` : '';
  const detail = `${freeMb} of ${totalMb} MB${files} are free`;
  const tooFew = use.files > 0 && use.ffree < FILES_NEEDED;
  if (freeMb < DISK_NEEDED_MB || tooFew)
    return failed(detail, 'remove something: one large function may need that much');
  if (shortageOf(use) > 0)
    return warning(detail, 'make room: on a disk that is nearly full no code is kept that is not in use');
  return detail;
}

export async function checkSocketDir(options: SocketRootOptions): Promise<Found> {
  try {
    const root = await openSocketRoot(options);
    await rmdir(root);
    return dirname(root);
  } catch (err) {
    return failed(errorText(err), 'let this user write one of these folders');
  }
}

/** The directory itself, or the nearest folder above that there is. */
async function existing(directory: string): Promise<string> {
  for (let folder = resolve(directory); ; folder = dirname(folder)) {
    try {
      await access(folder, constants.F_OK);
      return folder;
    } catch {
      if (folder === dirname(folder)) return folder;
    }
  }
}
