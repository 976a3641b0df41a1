import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isRuntimeName, RUNTIME_NAMES } from '@lambda-fleet/common/runtime-names';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { selectImages } from './build-images.js';
import { RUNTIME_IMAGES, type RuntimeImage } from './image-set.js';
import { verifyIntegrity } from './node-binary.js';
import { programFiles } from './program-files.js';
import { runProgram } from './run-program.js';
import { runtimeInputs } from './runtime-image.js';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'images-test-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

describe('the set of images', () => {
  it('serves every runtime name exactly once, but for functions that bring their own image', () => {
    const names = RUNTIME_IMAGES.flatMap((image) => [image.runtime, ...image.aliases]);
    expect([...names].sort()).toEqual(RUNTIME_NAMES.filter((name) => name !== 'image').sort());
  });

  it('can be limited by name and by alias, and keeps its order', () => {
    expect(selectImages(['python', 'nodejs22.x']).map((image) => image.runtime)).toEqual(['nodejs22.x', 'python3.11']);
  });

  it('refuses a name it does not have, naming those it has', () => {
    expect(isRuntimeName('nodejs18.x')).toBe(false);
    expect(() => selectImages(['nodejs18.x'])).toThrow(/"nodejs18.x".*nodejs22\.x/);
    expect(() => selectImages([])).toThrow();
  });
});

describe('the fingerprint of an image', () => {
  const imageOf = (program: string): RuntimeImage => ({
    runtime: 'python3.11',
    aliases: [],
    node: undefined,
    program,
    programInside: '/var/runtime/program',
    prepare: undefined,
    entry: ['/usr/bin/python3', '/var/runtime/program'],
  });

  it('changes with the program, its file names, the base, the architecture and the entry', async () => {
    await writeFile(join(folder, '__main__.py'), 'print(1)');
    const image = imageOf(folder);
    const original = await runtimeInputs(image, 'base', 'x64');
    expect(await runtimeInputs(image, 'base', 'x64')).toBe(original);
    const variants = [
      await runtimeInputs(image, 'base-2', 'x64'),
      await runtimeInputs(image, 'base', 'arm64'),
      await runtimeInputs({ ...image, entry: ['/usr/bin/python3'] }, 'base', 'x64'),
      await runtimeInputs({ ...image, prepare: ['/bin/true'] }, 'base', 'x64'),
    ];
    await writeFile(join(folder, 'more.py'), '');
    variants.push(await runtimeInputs(image, 'base', 'x64'));
    await rm(join(folder, 'more.py'));
    await writeFile(join(folder, '__main__.py'), 'print(2)');
    variants.push(await runtimeInputs(image, 'base', 'x64'));
    expect(new Set([original, ...variants]).size).toBe(variants.length + 1);
  });

  it('does not change with tests and interpreter caches', async () => {
    await writeFile(join(folder, '__main__.py'), 'print(1)');
    const original = await runtimeInputs(imageOf(folder), 'base', 'x64');
    await mkdir(join(folder, '__pycache__'));
    await writeFile(join(folder, '__pycache__', 'main.pyc'), 'x');
    await writeFile(join(folder, 'test_main.py'), 'x');
    expect(await runtimeInputs(imageOf(folder), 'base', 'x64')).toBe(original);
  });
});

it('a program that was not built is refused with how to build it', async () => {
  await expect(programFiles(join(folder, 'missing.cjs'))).rejects.toThrow(/missing\.cjs.*npm run build/);
  await expect(programFiles(folder)).rejects.toThrow(/holds no program/);
});

it('a download that is not what was published is refused', () => {
  const bytes = Buffer.from('published');
  const integrity = `sha512-${createHash('sha512').update(bytes).digest('base64')}`;
  verifyIntegrity(bytes, integrity, 'a.tgz');
  expect(() => verifyIntegrity(Buffer.from('forged'), integrity, 'a.tgz')).toThrow(/a\.tgz is not what was published/);
});

describe('a program', () => {
  it('that fails rejects with the end of what it printed', async () => {
    const failing = runProgram('sh', ['-c', 'echo why >&2; exit 3'], { deadlineMs: 10_000 });
    await expect(failing).rejects.toThrow(/status 3.*\n.*why/);
  });

  it('that does not exist rejects', async () => {
    await expect(runProgram('no-such-program', [], { deadlineMs: 10_000 })).rejects.toThrow(/could not be started/);
  });

  it('that runs too long is ended together with its children', async () => {
    const slow = runProgram('sh', ['-c', 'sleep 60 & sleep 60'], { deadlineMs: 100 });
    await expect(slow).rejects.toThrow(/took longer/);
  });
});
