/**
 * Bundles the runtime into `dist/runtime.cjs`, the one file a sandbox runs.
 *
 * CommonJS, because a bundled ES module would need a second file to say that it is
 * one; `import()` stays as it is, because that is how user code is loaded.
 */
import { realpathSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const here = new URL('.', import.meta.url);
const path = (relative) => fileURLToPath(new URL(relative, here));

export const runtimeFile = path('dist/runtime.cjs');

export async function buildRuntime() {
  await build({
    entryPoints: [path('src/main.ts')],
    outfile: runtimeFile,
    bundle: true,
    platform: 'node',
    format: 'cjs',
    target: 'node20',
    supported: { 'dynamic-import': true },
    legalComments: 'none',
    logLevel: 'warning',
  });
}

if (process.argv[1] !== undefined && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  await buildRuntime();
}
