/**
 * `npm test`: sets up everything that tests need, runs every check and test, and ends with `N passed, N failed`.
 *
 *   npm test                                   everything
 *   npm test -- --only unit,lint               some steps (and what they need)
 *   npm test -- --only integration journal     vitest filters, as `vitest run` takes them
 *
 * Plain JavaScript on Node alone: on a fresh machine it runs before anything is installed.
 */
import { randomUUID } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { endAll, npmProgram, run } from './setup/command.mjs';
import { findProgram, installDebianPackages, mayInstallPackages } from './setup/debian-packages.mjs';
import { dockerClient } from './setup/docker-client.mjs';
import { findOrStartEngine, mayStartEngine } from './setup/docker-engine.mjs';
import { checkNodeVersion } from './setup/node-version.mjs';
import { installNpmPackages } from './setup/npm-packages.mjs';
import { checkGeneratedCode } from './test/generated-code.mjs';
import { endLeftoverProcesses, leftoverContainers, markedEnvironment } from './test/leftovers.mjs';
import { Report, SetUpFailed } from './test/report.mjs';
import { tallyVitest } from './test/vitest-results.mjs';

const MINUTE = 60_000;
const PROJECTS = ['unit', 'integration', 'e2e'];
const STEPS = ['build', 'generated', 'types', 'lint', 'unused', ...PROJECTS];
/** Run only when asked for: `npm run test:faults`. */
const ON_DEMAND = ['faults'];
const PROJECT_DEADLINE_MS = { unit: 10 * MINUTE, integration: 40 * MINUTE, e2e: 40 * MINUTE, faults: 90 * MINUTE };

const root = resolve(import.meta.dirname, '..');
const runId = randomUUID();
const report = new Report();
/** @type {import('./setup/docker-engine.mjs').Engine | undefined} */
let engine;
let cleaning;

process.chdir(root);
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => void interrupted(signal));
try {
  await main(readArguments());
} catch (error) {
  if (!(error instanceof SetUpFailed)) throw error;
} finally {
  await cleanUp();
}
process.exitCode = report.finish();

function readArguments() {
  const { values, positionals } = parseArgs({ options: { only: { type: 'string' } }, allowPositionals: true });
  const only = values.only?.split(',') ?? STEPS;
  const known = [...STEPS, ...ON_DEMAND];
  const unknown = only.filter((step) => !known.includes(step));
  if (unknown.length > 0) {
    process.stderr.write(`There is no step "${unknown.join('", "')}". Steps: ${known.join(', ')}.\n`);
    process.exit(2);
  }
  return { steps: known.filter((step) => only.includes(step)), filters: positionals };
}

async function main({ steps, filters }) {
  const wants = (step) => steps.includes(step);
  const projects = [...PROJECTS, ...ON_DEMAND].filter(wants);

  await report.setUp('npm packages', async () => {
    checkNodeVersion();
    return await installNpmPackages();
  });
  let obstacle;
  if (wants('build') || wants('generated') || projects.length > 0) {
    await report.setUp('C compiler', ensureCompiler);
    const built = await report.check('build', () => command('npm', ['run', 'build']));
    if (!built) obstacle = 'the build failed';
  }
  if (wants('generated')) await report.check('generated code', () => checkGeneratedCode(root));
  if (wants('types')) await report.check('types of tests', () => program('tsc', '-p', 'tsconfig.tests.json'));
  if (wants('lint')) await report.check('lint', lint);
  if (wants('unused')) await report.check('unused code', () => program('knip'));

  for (const project of projects) {
    if (obstacle === undefined && project !== 'unit' && engine === undefined) obstacle = await setUpServers();
    if (obstacle === undefined) await report.tests(project, () => vitest(project, filters));
    else report.notRun(project, obstacle);
  }
  if (projects.length > 0) await report.check('nothing left behind', checkNothingLeft);
}

/** Where it cannot be installed, another compiler serves as well; without any, the build says what is missing. */
async function ensureCompiler() {
  if (findProgram('musl-gcc') !== undefined) return 'musl-gcc';
  if (!mayInstallPackages()) return findProgram('gcc') ?? 'none';
  return await installDebianPackages(['musl-gcc']);
}

function lint() {
  return program('biome', 'check', '--error-on-warnings', '--max-diagnostics=200', '.');
}

/** Resolves with why tests that need real servers cannot run, or undefined. */
async function setUpServers() {
  try {
    await report.setUp('Redis', () => installDebianPackages(['redis-server']));
    await report.setUp('Docker engine', async () => {
      engine = await findOrStartEngine();
      return engine.description;
    });
    await report.setUp('runtime images', buildRuntimeImages);
    return undefined;
  } catch (error) {
    if (error instanceof SetUpFailed) return error.message;
    throw error;
  }
}

async function buildRuntimeImages() {
  await ensureDebootstrap();
  const result = await run(process.execPath, ['runtimes/images/dist/build-images.js'], {
    deadlineMs: 15 * MINUTE,
    what: 'building the runtime images',
    onLine: (line) => process.stdout.write(`        ${line}\n`),
  });
  if (!result.ok) throw new Error(result.output);
  return 'up to date';
}

/** Root on Debian can always make the base image itself; elsewhere the image builder says what is missing. */
async function ensureDebootstrap() {
  if (!mayStartEngine()) return;
  const docker = await dockerClient(engine.host);
  const bases = await docker.listImages({ filters: { reference: ['lambda-fleet/base'] } });
  if (bases.length === 0) await installDebianPackages(['debootstrap']);
}

async function vitest(project, filters) {
  const folder = await mkdtemp(join(tmpdir(), 'lambda-test-'));
  try {
    const path = join(folder, 'report.json');
    const result = await run(
      npmProgram('vitest'),
      ['run', '--project', project, '--reporter=default', '--reporter=json', `--outputFile.json=${path}`, ...filters],
      { deadlineMs: PROJECT_DEADLINE_MS[project], env: markedEnvironment(runId), what: `${project} tests` },
    );
    return tallyVitest({ ...result, report: await readReport(path), filtered: filters.length > 0, root });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Undefined when vitest wrote none, or was killed while it did. */
async function readReport(path) {
  try {
    return JSON.parse(await readFile(path, 'utf8'));
  } catch (error) {
    if (error instanceof SyntaxError || error.code === 'ENOENT') return undefined;
    throw error;
  }
}

async function checkNothingLeft() {
  const left = await endLeftoverProcesses(runId);
  // An engine that others use too may hold containers that are none of this run's.
  if (engine?.isPrivate) left.push(...(await leftoverContainers(await dockerClient(engine.host))));
  return { ok: left.length === 0, output: left.join('\n') };
}

function program(name, ...args) {
  return command(npmProgram(name), args);
}

function command(path, args) {
  return run(path, args, { deadlineMs: 10 * MINUTE, what: `${basename(path)} ${args.join(' ')}` });
}

/** Runs once, whether the run ends by itself or by a signal. */
function cleanUp() {
  cleaning ??= (async () => {
    await endAll();
    await endLeftoverProcesses(runId);
    await engine?.stop();
  })();
  return cleaning;
}

async function interrupted(signal) {
  process.stdout.write(`\n${signal}: stopping\n`);
  await cleanUp();
  process.exit(signal === 'SIGINT' ? 130 : 143);
}
