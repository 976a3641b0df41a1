import { execFileSync } from 'node:child_process';
import { chmod, mkdir, mkdtemp, rm, symlink, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { strFromU8, unzipSync } from 'fflate';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { listCodeFiles } from './code-files.js';
import { checkArchiveSize, packZip } from './pack.js';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lambda-pack-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

async function write(files: Readonly<Record<string, string>>): Promise<void> {
  for (const [path, text] of Object.entries(files)) {
    await mkdir(dirname(join(folder, path)), { recursive: true });
    await writeFile(join(folder, path), text);
  }
}

const paths = async () => (await listCodeFiles(folder)).files.map((file) => file.path);
const zip = async () => await packZip((await listCodeFiles(folder)).files);

describe('packing', () => {
  it('gives equal bytes for equal files, whatever their times and the order they were made in', async () => {
    await write({ 'index.mjs': 'export const handler = 1;', 'a/b.txt': 'b', 'a-c.txt': 'c' });
    const first = await zip();
    await rm(join(folder, 'a'), { recursive: true });
    await write({ 'a/b.txt': 'b' });
    await utimes(join(folder, 'index.mjs'), new Date(0), new Date(0));
    expect(Buffer.compare(await zip(), first)).toBe(0);
  });

  it('gives equal bytes in every time zone', async () => {
    await write({ 'index.mjs': 'x' });
    const module = new URL('../../dist/project/', import.meta.url).href;
    const program = `
      const { listCodeFiles } = await import('${module}code-files.js');
      const { packZip } = await import('${module}pack.js');
      process.stdout.write(Buffer.from(await packZip((await listCodeFiles(process.argv[1])).files)).toString('hex'));`;
    const packedIn = (zone: string) =>
      execFileSync(process.execPath, ['--input-type=module', '-e', program, folder], {
        env: { ...process.env, TZ: zone },
        encoding: 'utf8',
      });
    expect(packedIn('Asia/Tokyo')).toBe(packedIn('America/Los_Angeles'));
  });

  it('keeps contents and the executable bit', async () => {
    await write({ 'bin/tool': '#!/bin/sh', 'index.mjs': 'exports' });
    await chmod(join(folder, 'bin/tool'), 0o744);
    const { files } = await listCodeFiles(folder);
    expect(files.map(({ path, executable }) => [path, executable])).toEqual([
      ['bin/tool', true],
      ['index.mjs', false],
    ]);
    expect(strFromU8(unzipSync(await packZip(files))['bin/tool'] ?? new Uint8Array())).toBe('#!/bin/sh');
  });

  it('includes node_modules, without caches, version control, local state and settings', async () => {
    await write({
      'index.mjs': '',
      'node_modules/dep/index.js': '',
      'node_modules/.cache/x': '',
      '.git/HEAD': '',
      '.lambda/api-key': 'secret',
      'lambda.json': '{}',
      'pkg/__pycache__/m.pyc': '',
      'pkg/lambda.json': 'this one is data',
    });
    expect(await paths()).toEqual(['index.mjs', 'node_modules/dep/index.js', 'pkg/lambda.json']);
  });

  it('leaves out what .gitignore names, and says so when that is node_modules', async () => {
    await write({ 'index.mjs': '', '.gitignore': 'node_modules/\n*.log\n', 'node_modules/d/i.js': '', 'x.log': '' });
    const { files, warnings } = await listCodeFiles(folder);
    expect(files.map((file) => file.path)).toEqual(['index.mjs']);
    expect(warnings.join()).toContain('node_modules is left out because .gitignore names it');
  });

  it('lets .lambdaignore decide alone when it is there', async () => {
    await write({
      'index.mjs': '',
      '.gitignore': 'node_modules/\n',
      '.lambdaignore': '*.md\n!.lambda\n',
      'node_modules/d/i.js': '',
      'README.md': '',
      '.lambda/api-key': 'secret',
    });
    expect(await paths()).toEqual(['index.mjs', 'node_modules/d/i.js']);
  });

  it('stores a link inside the folder as what it points to', async () => {
    await write({ 'real/a.txt': 'a', 'index.mjs': '' });
    await symlink('real', join(folder, 'linked'));
    await symlink('real/a.txt', join(folder, 'b.txt'));
    expect(await paths()).toEqual(['b.txt', 'index.mjs', 'linked/a.txt', 'real/a.txt']);
    expect(strFromU8(unzipSync(await zip())['b.txt'] ?? new Uint8Array())).toBe('a');
  });

  it.each([
    ['/etc/hostname', 'out of the folder'],
    ['..', 'out of the folder'],
    ['nowhere', 'leads nowhere'],
    ['.', 'a folder that it is in'],
  ])('refuses a link to %s', async (target, reason) => {
    await write({ 'index.mjs': '' });
    await symlink(target, join(folder, 'link'));
    await expect(listCodeFiles(folder)).rejects.toThrow(reason);
  });

  it('does not look at a link that is ignored', async () => {
    await write({ 'index.mjs': '', '.lambdaignore': 'link\n' });
    await symlink('/etc', join(folder, 'link'));
    expect(await paths()).toEqual(['index.mjs']);
  });

  it('refuses an archive over 50 MB and names its size', () => {
    expect(() => checkArchiveSize(50 * 1024 * 1024)).not.toThrow();
    expect(() => checkArchiveSize(50 * 1024 * 1024 + 1, 'The largest: x.')).toThrow(/50\.0 MB; at most 50\.0 MB/);
  });
});
