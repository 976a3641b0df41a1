/** Writes past the runtime, for ever. */
import { writeSync } from 'node:fs';

const block = Buffer.alloc(64 * 1024, 'y\n');
export const handler = () => {
  for (;;) {
    try {
      writeSync(1, block);
    } catch (error) {
      if (error.code !== 'EAGAIN') throw error;
    }
  }
};
