import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { errorText } from '@lambda-fleet/common/errors';

const NOT_PART_OF_IT = /(^|\/)(__pycache__\/|test_[^/]*$|[^/]*_test\.py$)/;

/**
 * The files of a runtime program (one file or a folder), sorted, without tests and interpreter caches.
 * Rejects when there are none: the program was not built.
 */
export async function programFiles(program: string): Promise<string[]> {
  try {
    if ((await stat(program)).isFile()) return [program];
    const entries = await readdir(program, { recursive: true, withFileTypes: true });
    const files = entries
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name))
      .filter((path) => !NOT_PART_OF_IT.test(path.slice(program.length)));
    if (files.length === 0) throw new Error('the folder holds no program');
    return files.sort();
  } catch (error) {
    throw new Error(`the runtime program ${program} cannot be read; \`npm run build\` makes it (${errorText(error)})`);
  }
}
