import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { compileStatic } from '../../runtimes/provided/build.mjs';

const SOURCE = fileURLToPath(new URL('../test-programs/image-program.c', import.meta.url));

/** A static program for container images; its source says what it does. */
export async function imageProgram(): Promise<Buffer> {
  const folder = await mkdtemp(join(tmpdir(), 'image-program-'));
  try {
    compileStatic([SOURCE], join(folder, 'program'), ['-static', '-O1', '-Wall', '-Wextra', '-Werror']);
    return await readFile(join(folder, 'program'));
  } finally {
    await rm(folder, { recursive: true });
  }
}
