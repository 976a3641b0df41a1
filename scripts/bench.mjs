/**
 * `npm run bench -- <name> [flags]`: builds what is stale, makes sure that the driver has what it needs, and measures.
 * Standard output holds the figures alone.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { resolve } from 'node:path';
import { build } from './build.mjs';
import { run } from './setup/command.mjs';
import { findProgram } from './setup/debian-packages.mjs';
import { findRunningEngine, mayStartEngine } from './setup/docker-engine.mjs';
import { checkNodeVersion } from './setup/node-version.mjs';
import { installNpmPackages } from './setup/npm-packages.mjs';
import { startPrivateEngine } from './setup/private-engine.mjs';

const IMAGES_DEADLINE_MS = 900_000;
const say = (line) => process.stderr.write(`bench: ${line}\n`);
let engine;

process.chdir(resolve(import.meta.dirname, '..'));
try {
  checkNodeVersion();
  say(`npm packages ${await installNpmPackages()}`);
  await build();
  // Its nodes are simulated: it has no sandboxes.
  const driver = process.argv[2] === 'scale' ? 'process' : await chooseDriver();
  process.exitCode = await measure(driver);
} catch (error) {
  say(error.message);
  process.exitCode = 1;
} finally {
  await engine?.stop();
}

/** With `auto`: docker where an engine answers or one that is installed can be started, else process. */
async function chooseDriver() {
  const flag = process.argv.findIndex((argument) => argument.startsWith('--driver'));
  const asked = flag === -1 ? 'auto' : (process.argv[flag].split('=')[1] ?? process.argv[flag + 1]);
  if (asked === 'process') return asked;

  engine = await findRunningEngine();
  if (engine === undefined && mayStartEngine() && findProgram('dockerd') !== undefined) {
    engine = await startPrivateEngine();
  }
  if (engine === undefined) {
    if (asked === 'auto') say('no Docker engine answers: measuring the process driver, which does not isolate');
    return asked === 'auto' ? 'process' : asked;
  }
  say(engine.description);
  process.env.DOCKER_HOST = engine.host;
  const images = await run(process.execPath, ['runtimes/images/dist/build-images.js', '--only', 'nodejs,python'], {
    deadlineMs: IMAGES_DEADLINE_MS,
    onLine: (line) => process.stderr.write(`${line}\n`),
  });
  if (!images.ok) throw new Error('the runtime image could not be made');
  return asked === 'auto' ? 'docker' : asked;
}

async function measure(driver) {
  const child = spawn(process.execPath, ['bench/dist/main.js', ...process.argv.slice(2), '--driver', driver], {
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  // The benchmark stops what it started; this process only waits for it.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
  const [code] = await once(child, 'exit');
  return code ?? 1;
}
