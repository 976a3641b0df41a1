import { readFile } from 'node:fs/promises';
import { run } from './command.mjs';

const INSTALL_DEADLINE_MS = 600_000;

/** Runs `npm ci` when node_modules is not what the lock file asks for. Resolves with what was done. */
export async function installNpmPackages() {
  const wanted = await readPackages('package-lock.json');
  const installed = await readPackages('node_modules/.package-lock.json');
  if (wanted === undefined) throw new Error('package-lock.json cannot be read; is this a whole checkout?');
  const reason = difference(wanted, installed);
  if (reason === undefined) return 'as locked';

  process.stderr.write(`        npm ci (${reason})\n`);
  const result = await run('npm', ['ci', '--loglevel=error'], { deadlineMs: INSTALL_DEADLINE_MS, what: 'npm ci' });
  if (!result.ok) throw new Error(`npm ci failed (${result.ended}). Is the npm registry reachable?\n${result.output}`);
  return 'installed';
}

/**
 * Why an installation has to be made again, or undefined. An optional package may be absent: it is another
 * platform's.
 *
 * @param {Record<string, {version?: string, link?: boolean, optional?: boolean}>} wanted
 * @param {Record<string, {version?: string}> | undefined} installed
 */
export function difference(wanted, installed) {
  if (installed === undefined) return 'nothing is installed';
  for (const [path, { version, link, optional }] of Object.entries(wanted)) {
    if (!path.includes('node_modules/') || link) continue;
    const found = installed[path]?.version;
    if (found === version || (found === undefined && optional)) continue;
    return `${path} is ${found ?? 'missing'}, locked at ${version}`;
  }
  return undefined;
}

async function readPackages(path) {
  try {
    return JSON.parse(await readFile(path, 'utf8')).packages;
  } catch (error) {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  }
}
