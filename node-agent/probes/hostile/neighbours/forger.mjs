/** Writes frames that it may not send to every socket it finds. */
import { readdirSync, readlinkSync, writeSync } from 'node:fs';

export const handler = async () => {
  for (const fd of readdirSync('/proc/self/fd')) {
    try {
      if (readlinkSync(`/proc/self/fd/${fd}`).startsWith('socket:') || fd === '3')
        writeSync(Number(fd), Buffer.alloc(64, 255));
    } catch {
      // Closed meanwhile, or not for writing.
    }
  }
  await new Promise((resolve) => setTimeout(resolve, 60_000));
};
