import { randomBytes } from 'node:crypto';
import { chmod, readFile, rename, writeFile } from 'node:fs/promises';
import type { Logger } from '@lambda-fleet/common/logger';
import type { ApiKeys } from './api-keys.js';

/**
 * Makes sure that `keyFile` (mode 0600) holds a key that works, so that a fleet
 * that was just started can be used: makes one named `bootstrap` when the file
 * is missing or its key is not known here.
 */
export async function ensureBootstrapKey(keys: ApiKeys, keyFile: string, log: Logger): Promise<void> {
  const existing = await readFile(keyFile, 'utf8').catch((err: NodeJS.ErrnoException) => {
    if (err.code === 'ENOENT') return '';
    throw err;
  });
  if (existing !== '' && (await keys.verify(existing.trim())) !== undefined) {
    await chmod(keyFile, 0o600);
    return;
  }
  const key = await keys.create('default', 'bootstrap');
  // Renamed in, so that no reader sees half a key.
  const unfinished = `${keyFile}.${randomBytes(4).toString('hex')}`;
  await writeFile(unfinished, `${key}\n`, { mode: 0o600, flag: 'wx' });
  await rename(unfinished, keyFile);
  log.info({ keyFile }, 'bootstrap_key_written');
}
