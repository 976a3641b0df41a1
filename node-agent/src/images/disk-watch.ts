import { statfs } from 'node:fs/promises';

const LOOK_EVERY_MS = 1_000;
/** A disk is never filled further, whatever a build may use. */
const FREE_SHARE_MIN = 0.05;

/**
 * Calls `onFull` when the disk of `directory` has lost more than `bytesMax` since now, or is nearly full. Others write there too,
 * so a build may be blamed for what was not its own: the limit protects the machine. Does nothing where there is no such
 * directory: the engine is on another machine.
 */
export async function watchDisk(
  directory: string,
  bytesMax: number,
  signal: AbortSignal,
  onFull: (reason: string) => void,
): Promise<void> {
  const before = await space(directory);
  if (before === undefined) return;
  const timer = setInterval(async () => {
    const now = await space(directory);
    if (now === undefined || signal.aborted) return;
    const usedBytes = before.free - now.free;
    if (usedBytes > bytesMax) onFull(`it used more than ${Math.floor(bytesMax / (1024 * 1024))} MB of disk`);
    else if (now.free < now.total * FREE_SHARE_MIN) onFull("the node's disk is nearly full");
  }, LOOK_EVERY_MS);
  signal.addEventListener('abort', () => clearInterval(timer), { once: true });
}

async function space(directory: string): Promise<{ readonly free: number; readonly total: number } | undefined> {
  try {
    const { bavail, blocks, bsize } = await statfs(directory);
    return { free: bavail * bsize, total: blocks * bsize };
  } catch {
    return undefined;
  }
}
