import { mkdir, rename, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { ServerContext } from '../find-server.js';

/** Writes a context for the commands to find, whole or not at all. */
export async function writeContext(file: string, context: ServerContext): Promise<void> {
  await mkdir(dirname(file), { recursive: true, mode: 0o700 });
  const unfinished = `${file}.${process.pid}`;
  await writeFile(unfinished, `${JSON.stringify(context, null, 2)}\n`, { mode: 0o600 });
  await rename(unfinished, file);
}
