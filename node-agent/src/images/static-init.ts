import { access, chmod, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ImageEngine } from './image-engine.js';

/** Where the image of the `provided` runtime has it. */
const INIT_IN_IMAGE = '/var/runtime/init';
const FILE_PREFIX = 'image-init-';

/**
 * The static init for the machine that the engine runs containers on, which may be another than this one: taken out of the image of
 * the `provided` runtime, once for each image. Undefined when the engine has no such image.
 */
export async function openStaticInit(
  engine: ImageEngine,
  image: string,
  directory: string,
): Promise<string | undefined> {
  const info = await engine.inspect(image);
  if (info === undefined) return undefined;
  const name = `${FILE_PREFIX}${info.Id.replace(/^sha256:/, '').slice(0, 16)}`;
  const path = join(directory, name);
  const isThere = await access(path).then(
    () => true,
    () => false,
  );
  if (isThere) return path;
  await writeFile(`${path}.new`, await engine.readFile(info.Id, INIT_IN_IMAGE));
  // Whoever runs in a sandbox has to be able to start it.
  await chmod(`${path}.new`, 0o755);
  await rename(`${path}.new`, path);
  for (const other of await readdir(directory)) {
    if (other.startsWith(FILE_PREFIX) && other !== name) await rm(join(directory, other));
  }
  return path;
}
