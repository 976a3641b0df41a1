import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** What the build of the static init has; it runs before anything is compiled, and so is no TypeScript. */
interface InitBuild {
  compileStatic(sources: readonly string[], target: string, flags: readonly string[]): void;
}

const SOURCE = fileURLToPath(new URL('../test-programs/image-program.c', import.meta.url));

/** A static program for container images; its source says what it does. */
export async function imageProgram(): Promise<Buffer> {
  const folder = await mkdtemp(join(tmpdir(), 'image-program-'));
  try {
    const build = (await import(new URL('../../runtimes/provided/build.mjs', import.meta.url).href)) as InitBuild;
    build.compileStatic([SOURCE], join(folder, 'program'), ['-static', '-O1', '-Wall', '-Wextra', '-Werror']);
    return await readFile(join(folder, 'program'));
  } finally {
    await rm(folder, { recursive: true });
  }
}
