/**
 * Starts a Docker engine of one's own, for tests that need one with other settings than the one that `npm test` uses:
 *
 *   node scripts/engine.mjs ['{"runtimes": {"runsc": {"path": …, "runtimeArgs": […]}}, "ownRules": true}']
 *
 * Prints its DOCKER_HOST, and stops it and removes everything of it when standard input ends. Only root on Linux can.
 */
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { basename } from 'node:path';
import { installDebianPackages } from './setup/debian-packages.mjs';
import { startDaemon } from './setup/docker-daemon.mjs';

await installDebianPackages(['dockerd', 'runsc', 'nft', 'ip']);
const [options = '{}'] = process.argv.slice(2);
const dataRoot = await mkdtemp('/var/tmp/lambda-engine-');
let daemon;
try {
  daemon = await startDaemon({ runDir: `/run/${basename(dataRoot)}`, dataRoot, ...JSON.parse(options) });
  process.stdout.write(`${daemon.host}\n`);
  process.stdin.resume();
  await once(process.stdin, 'end');
} finally {
  await daemon?.stop();
  await rm(dataRoot, { recursive: true, force: true });
}
