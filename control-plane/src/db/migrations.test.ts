import { execFile } from 'node:child_process';
import { cp, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';

const controlPlane = fileURLToPath(new URL('../..', import.meta.url));

it('the migrations make exactly the tables of schema.ts', { timeout: 30_000 }, async () => {
  const out = await mkdtemp(join(tmpdir(), 'lf-migrations-'));
  try {
    await cp(join(controlPlane, 'migrations'), out, { recursive: true });
    const before = await readdir(out);
    const kit = join(controlPlane, '../node_modules/drizzle-kit/bin.cjs');
    const args = [kit, 'generate', '--dialect=postgresql', '--schema=./src/db/schema.ts', `--out=${out}`];
    await promisify(execFile)(process.execPath, args, { cwd: controlPlane, timeout: 25_000 });
    // A further file is a change of the schema without its migration: run `npm run generate`.
    expect(await readdir(out)).toEqual(before);
  } finally {
    await rm(out, { recursive: true, force: true });
  }
});
