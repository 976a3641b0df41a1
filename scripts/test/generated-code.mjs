import { cp, mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { join, relative, resolve } from 'node:path';
import { npmProgram, run } from '../setup/command.mjs';

const GENERATE_DEADLINE_MS = 120_000;

/**
 * Generates the protocol code, the migrations and the generated pages again, beside the ones in the repository, and
 * compares. Needs a build.
 *
 * @param {string} root of the repository
 * @returns {Promise<{ok: boolean, output: string}>}
 */
export async function checkGeneratedCode(root) {
  // Inside the repository: drizzle-kit takes no output path elsewhere.
  const fresh = await mkdtemp(join(root, 'node_modules', '.generated-'));
  try {
    const checks = [checkProtocol, checkMigrations, checkPages];
    const problems = [];
    for (const check of checks) problems.push(...(await check(root, fresh)));
    return { ok: problems.length === 0, output: problems.join('\n') };
  } finally {
    await rm(fresh, { recursive: true, force: true });
  }
}

async function checkProtocol(root, fresh) {
  const problems = [];
  for (const args of [['lint'], ['generate', '-o', fresh]]) {
    const result = await run(npmProgram('buf'), args, { cwd: root, deadlineMs: GENERATE_DEADLINE_MS });
    if (!result.ok) problems.push(`buf ${args[0]} ended with ${result.ended}:\n${result.output}`);
  }
  if (problems.length > 0) return problems;
  const different = await differentFiles(join(fresh, 'proto/gen'), join(root, 'proto/gen'));
  return different.map((path) => `proto/gen/${path} is not what proto/ generates. Run \`npm run generate\`.`);
}

async function checkMigrations(root, fresh) {
  const controlPlane = join(root, 'control-plane');
  const copy = join(fresh, 'migrations');
  await cp(join(controlPlane, 'migrations'), copy, { recursive: true });
  const args = ['--dialect', 'postgresql', '--schema', './src/db/schema.ts', '--out', relative(controlPlane, copy)];
  const result = await run(npmProgram('drizzle-kit'), ['generate', ...args], {
    cwd: controlPlane,
    deadlineMs: GENERATE_DEADLINE_MS,
  });
  if (!result.ok) return [`drizzle-kit generate ended with ${result.ended}:\n${result.output}`];
  const different = await differentFiles(copy, join(controlPlane, 'migrations'));
  if (different.length === 0) return [];
  return [
    `control-plane/src/db/schema.ts has changes without a migration (${different.join(', ')}). Run \`npm run generate\`.`,
  ];
}

async function checkPages(root, fresh) {
  const script = join(root, 'scripts/generate-docs.mjs');
  const folder = join(fresh, 'docs');
  await mkdir(folder);
  const result = await run(process.execPath, [script, folder], { cwd: root, deadlineMs: GENERATE_DEADLINE_MS });
  if (!result.ok) return [`generate-docs ended with ${result.ended}:\n${result.output}`];
  const pages = [];
  for (const page of await readdir(folder)) {
    const now = await readFile(join(root, 'docs', page), 'utf8').catch(() => '');
    if (now !== (await readFile(join(folder, page), 'utf8'))) pages.push(page);
  }
  return pages.map((page) => `docs/${page} is not what the code generates. Run \`npm run generate\`.`);
}

/** Paths of files that are in only one of two folders, or not the same in both. */
export async function differentFiles(left, right) {
  const [inLeft, inRight] = await Promise.all([filesIn(left), filesIn(right)]);
  const paths = [...new Set([...inLeft.keys(), ...inRight.keys()])].sort();
  return paths.filter((path) => inLeft.get(path) !== inRight.get(path));
}

async function filesIn(folder) {
  const files = new Map();
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const path = resolve(entry.parentPath, entry.name);
    files.set(relative(folder, path), await readFile(path, 'utf8'));
  }
  return files;
}
