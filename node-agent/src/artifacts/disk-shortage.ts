import { statfs } from 'node:fs/promises';

const GIB = 1024 * 1024 * 1024;

/** A disk is nearly full below the first, and has room again above the second. */
const NEARLY_FULL = { share: 0.05, bytes: 5 * GIB };
const ROOM = { share: 0.1, bytes: 10 * GIB };

/** What `statfs` says, in blocks and files. */
export interface DiskUse {
  readonly bsize: number;
  readonly blocks: number;
  readonly bavail: number;
  readonly files: number;
  readonly ffree: number;
}

/** How much of the cache's own to remove: bytes, or all that can be when it is files that run out. */
export function shortageOf({ bsize, blocks, bavail, files, ffree }: DiskUse): number {
  // Some filesystems make files as they need them, and report none.
  if (files > 0 && ffree < files * NEARLY_FULL.share) return Number.POSITIVE_INFINITY;
  const total = blocks * bsize;
  const free = bavail * bsize;
  if (free >= Math.min(total * NEARLY_FULL.share, NEARLY_FULL.bytes)) return 0;
  return Math.min(total * ROOM.share, ROOM.bytes) - free;
}

/** Bytes to free on the disk of `directory`; 0 as long as it is not nearly full. */
export async function diskShortage(directory: string): Promise<number> {
  return shortageOf(await statfs(directory));
}
