import { execFile } from 'node:child_process';
import { open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
const PIECE_BYTES = 1024 * 1024;

/** A disk of its own, in memory, that can be filled to its last byte. Needs root. */
export class SmallDisk {
  constructor(readonly folder: string) {}

  async mount(megabytes: number): Promise<void> {
    await run('mount', ['-t', 'tmpfs', '-o', `size=${megabytes}m,mode=0711`, 'tmpfs', this.folder]);
  }

  async unmount(): Promise<void> {
    await run('umount', ['-l', this.folder]);
  }

  async fill(): Promise<void> {
    const file = await open(this.#filler, 'w');
    try {
      for (;;) await file.write(Buffer.alloc(PIECE_BYTES));
    } catch (err) {
      if ((err as NodeJS.ErrnoException).code !== 'ENOSPC') throw err;
    } finally {
      await file.close();
    }
  }

  async clear(): Promise<void> {
    await rm(this.#filler, { force: true });
  }

  get #filler(): string {
    return join(this.folder, 'filler');
  }
}
