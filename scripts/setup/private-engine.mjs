import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { startDaemon } from './docker-daemon.mjs';
import { isSameProcess, processStart } from './processes.mjs';

const SLOTS = [1, 2, 3, 4];

/** Sockets live under the first: their paths are limited to 108 bytes. Images live under the second, kept between runs. */
const runDirOf = (slot) => `/run/lambda-test-${slot}`;
const dataRootOf = (slot) => `/var/lib/lambda-fleet/test-docker-${slot}`;

/**
 * Starts a dockerd that nobody else uses. Several test runs at once take different slots; a slot whose run was killed is
 * cleaned and taken again.
 *
 * @returns {Promise<import('./docker-engine.mjs').Engine>}
 */
export async function startPrivateEngine() {
  const slot = await takeSlot();
  const { host, version, stop } = await startDaemon({ runDir: runDirOf(slot), dataRoot: dataRootOf(slot) });
  return { host, description: `private ${version} at ${host}`, isPrivate: true, stop };
}

/** Claims a slot that no running test run holds. */
async function takeSlot() {
  for (const slot of SLOTS) {
    const ownerFile = join(runDirOf(slot), 'owner');
    await mkdir(runDirOf(slot), { recursive: true, mode: 0o711 });
    const owner = await readJson(ownerFile);
    if (owner !== undefined && isSameProcess(owner)) continue;
    await writeFile(ownerFile, JSON.stringify({ pid: process.pid, start: processStart(process.pid) }));
    return slot;
  }
  throw new Error(`${SLOTS.length} other test runs with private engines are running; wait for one to end.`);
}

async function readJson(path) {
  try {
    return JSON.parse(await readFile(path, 'utf8'));
  } catch {
    // Absent, or cut off by the death of its writer: nobody holds the slot.
    return undefined;
  }
}
