/**
 * `npm run build`: compiles every workspace, bundles the Node runtime and compiles the static init. What is fresh is left
 * alone: with nothing changed it takes a fraction of a second.
 */
import { readdirSync, realpathSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { npmProgram, run } from './setup/command.mjs';

const root = resolve(import.meta.dirname, '..');
const COMPILE_DEADLINE_MS = 300_000;

/** Rejects with the compiler's own words when something does not compile. */
export async function build() {
  const compiled = await run(npmProgram('tsc'), ['-b'], {
    cwd: root,
    deadlineMs: COMPILE_DEADLINE_MS,
    what: 'the compiler',
  });
  if (!compiled.ok) throw new Error(`The build failed (${compiled.ended}).\n${compiled.output.trimEnd()}`);

  // Where it cannot be compiled, the images compile it in a container, and the process driver goes without.
  const { buildInit } = await import('../runtimes/provided/build.mjs');
  const impossible = buildInit();
  if (impossible !== undefined) process.stderr.write(`The static init was not compiled: ${impossible}.\n`);

  const runtime = join(root, 'runtimes/node');
  // Loading the bundler takes longer than this look.
  if (newest(join(runtime, 'src'), join(runtime, 'build.mjs')) < newest(join(runtime, 'dist/runtime.cjs'))) return;
  const { buildRuntime } = await import('../runtimes/node/build.mjs');
  await buildRuntime();
}

/** The latest modification below these paths, milliseconds; 0 when nothing is there. */
function newest(...paths) {
  let latest = 0;
  for (const path of paths) {
    const found = statSync(path, { throwIfNoEntry: false });
    if (found === undefined) continue;
    const inside = found.isDirectory() ? readdirSync(path).map((name) => join(path, name)) : [];
    latest = Math.max(latest, found.mtimeMs, inside.length === 0 ? 0 : newest(...inside));
  }
  return latest;
}

if (process.argv[1] !== undefined && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  try {
    await build();
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : error}\n`);
    process.exitCode = 1;
  }
}
