import { mkdir, mkdtemp, rm, symlink, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { inspectArchive } from '@lambda-fleet/common/archives/inspect-archive';
import { list } from 'tar';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { packBuildContext } from './build-context.js';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lambda-context-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

async function write(...paths: string[]): Promise<void> {
  for (const path of ['Dockerfile', ...paths]) {
    await mkdir(dirname(join(folder, path)), { recursive: true });
    await writeFile(join(folder, path), path);
  }
}

async function sent(): Promise<string[]> {
  const { archive } = await packBuildContext(folder);
  const paths: string[] = [];
  await new Promise<void>((resolve, reject) => {
    const parser = list({ onReadEntry: (entry) => paths.push(entry.path) });
    parser.on('end', resolve);
    parser.on('error', reject);
    parser.end(Buffer.from(archive));
  });
  return paths.sort();
}

describe('a build context', () => {
  it('is everything in the folder but our own state, empty folders included', async () => {
    await write('app/main.c', '.git/HEAD', 'lambda.json', '.lambda/api-key', 'sub/.lambda/x');
    await mkdir(join(folder, 'empty'));
    expect(await sent()).toEqual([
      '.git/',
      '.git/HEAD',
      'Dockerfile',
      'app/',
      'app/main.c',
      'empty/',
      'lambda.json',
      'sub/',
      'sub/.lambda/',
      'sub/.lambda/x',
    ]);
  });

  /** As `docker build` itself does: each was compared with what it sends. */
  it.each<[string, string[]]>([
    ['node_modules', ['Dockerfile', 'a.md', 'sub/', 'sub/b.md', 'sub/node_modules/', 'sub/node_modules/y']],
    ['**/node_modules', ['Dockerfile', 'a.md', 'sub/', 'sub/b.md']],
    [
      '*.md',
      ['Dockerfile', 'node_modules/', 'node_modules/x', 'sub/', 'sub/b.md', 'sub/node_modules/', 'sub/node_modules/y'],
    ],
    ['**/*.md', ['Dockerfile', 'node_modules/', 'node_modules/x', 'sub/', 'sub/node_modules/', 'sub/node_modules/y']],
    ['*\n!sub/b.md', ['Dockerfile', 'sub/b.md']],
    ['sub\n!sub/b.md', ['Dockerfile', 'a.md', 'node_modules/', 'node_modules/x', 'sub/b.md']],
    ['# all\n\n  /sub/  \nnode_modules', ['Dockerfile', 'a.md']],
    [
      'Dockerfile\n.dockerignore\na.md',
      ['Dockerfile', 'node_modules/', 'node_modules/x', 'sub/', 'sub/b.md', 'sub/node_modules/', 'sub/node_modules/y'],
    ],
    [
      'A.MD',
      [
        'Dockerfile',
        'a.md',
        'node_modules/',
        'node_modules/x',
        'sub/',
        'sub/b.md',
        'sub/node_modules/',
        'sub/node_modules/y',
      ],
    ],
  ])('leaves out what .dockerignore says: %j', async (rules, expected) => {
    await write('a.md', 'node_modules/x', 'sub/b.md', 'sub/node_modules/y');
    await writeFile(join(folder, '.dockerignore'), rules);
    expect(await sent()).toEqual(['.dockerignore', ...expected].sort());
  });

  it('keeps links, which the server takes', async () => {
    await write('bin/tool');
    await symlink('bin/tool', join(folder, 'tool'));
    await symlink('../Dockerfile', join(folder, 'bin/up'));
    const { archive, files } = await packBuildContext(folder);
    expect(files).toBe(2);
    const inspected = await inspectArchive(Buffer.from(archive));
    expect(inspected.has('tool') && inspected.has('bin/up')).toBe(true);
  });

  it.each([
    ['/etc/passwd', 'out of the folder'],
    ['../../secret', 'out of the folder'],
    ['..', 'out of the folder'],
    ['sub/../../x', 'not the shortest way'],
  ])('refuses a link to %s, unless it is left out', async (target, message) => {
    await write();
    await symlink(target, join(folder, 'link'));
    await expect(packBuildContext(folder)).rejects.toThrow(message);
    await writeFile(join(folder, '.dockerignore'), 'link');
    expect(await sent()).toEqual(['.dockerignore', 'Dockerfile']);
  });

  it('has equal bytes for equal files, whatever their times', async () => {
    await write('b', 'a');
    const first = await packBuildContext(folder);
    await utimes(join(folder, 'a'), new Date(0), new Date(0));
    expect(Buffer.compare((await packBuildContext(folder)).archive, first.archive)).toBe(0);
  });
});
