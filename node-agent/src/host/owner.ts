import { createHash } from 'node:crypto';
import { realpath } from 'node:fs/promises';

/**
 * Names one agent's data directory on this machine, 16 hexadecimal digits. Sandboxes carry it, so that an agent which
 * starts again removes its own leftovers and never those of another agent with the same node id.
 */
export async function ownerOf(nodeId: string, dataDir: string): Promise<string> {
  const place = await realpath(dataDir);
  return createHash('sha256').update(`${nodeId}\0${place}`).digest('hex').slice(0, 16);
}
