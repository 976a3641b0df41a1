/**
 * `npm start [-- flags of lambda up]`: installs, builds and makes runtime images where they are missing or stale, then
 * runs `lambda up` in this very process, so that no process stands between a signal and it.
 *
 * Plain JavaScript on Node alone: on a fresh clone it runs before anything is installed.
 */
import { existsSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { endAll, run } from './setup/command.mjs';
import { checkNodeVersion } from './setup/node-version.mjs';
import { difference } from './setup/npm-packages.mjs';

const INSTALL_DEADLINE_MS = 900_000;
/** A base image may have to be made from Debian packages. */
const IMAGES_DEADLINE_MS = 1_800_000;

const root = resolve(import.meta.dirname, '..');
const flags = process.argv.slice(2);
const say = (text) => process.stderr.write(`${text}\n`);

process.chdir(root);
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, interrupted);
try {
  checkNodeVersion();
  if (!flags.some((flag) => flag === '-h' || flag === '--help')) await prepare();
  else if (!existsSync('cli/dist/main.js')) throw new Error('Not built yet. The flags are in docs/lambda-up.md.');
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.off(signal, interrupted);
  const { run: lambda } = await import('../cli/dist/main.js');
  await lambda(['up', ...flags]);
} catch (error) {
  say(`error: ${error instanceof Error ? error.message : error}`);
  process.exitCode = 1;
}

async function prepare() {
  const reason = difference(packagesOf('package-lock.json'), packagesOf('node_modules/.package-lock.json'));
  if (reason !== undefined) await install(reason);
  await timed('Building', async () => {
    const { build } = await import('./build.mjs');
    await build();
  });
  await makeImages();
}

async function install(reason) {
  await timed(`Installing packages (${reason})`, async () => {
    const result = await run('npm', ['ci', '--loglevel=error'], { deadlineMs: INSTALL_DEADLINE_MS, what: 'npm ci' });
    if (!result.ok) {
      throw new Error(`npm ci failed (${result.ended}). Is the npm registry reachable?\n${result.output.trimEnd()}`);
    }
  });
}

/** Without images the fleet still runs, on the process driver; `lambda up` says what that means. */
async function makeImages() {
  if (driverFlag() === 'process') return;
  const { readConfig } = await import('../cli/dist/config.js');
  const { engineAnswers } = await import('../cli/dist/up/docker-engine.js');
  if (!(await engineAnswers(readConfig().dockerHost))) return;
  const result = await run(process.execPath, ['runtimes/images/dist/build-images.js'], {
    deadlineMs: IMAGES_DEADLINE_MS,
    what: 'building the runtime images',
    onLine: say,
  });
  if (!result.ok) {
    const lastLine = result.output.trimEnd().split('\n').at(-1);
    say(`warning: the runtime images could not be built (${result.ended}): ${lastLine}`);
  }
}

function driverFlag() {
  const at = flags.lastIndexOf('--driver');
  const joined = flags.findLast((flag) => flag.startsWith('--driver='));
  return joined?.slice('--driver='.length) ?? (at === -1 ? 'auto' : flags[at + 1]);
}

/** Says what takes long while it does, and how long it took. What is done in a blink is not worth a line. */
async function timed(what, work) {
  const startedAt = performance.now();
  let said = false;
  const timer = setTimeout(() => {
    said = true;
    say(`${what} …`);
  }, 700);
  try {
    await work();
  } finally {
    clearTimeout(timer);
  }
  if (said) say(`${what}: ${((performance.now() - startedAt) / 1_000).toFixed(1)} s`);
}

function packagesOf(lockFile) {
  return existsSync(lockFile) ? JSON.parse(readFileSync(lockFile, 'utf8')).packages : undefined;
}

/** Before `lambda up` takes the signals over: ends the step that runs. */
async function interrupted(signal) {
  await endAll();
  say(`${signal}: stopped before the start.`);
  process.exit(130);
}
