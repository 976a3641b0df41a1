import { lstat, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { crc32, deflateRawSync, gzipSync } from 'node:zlib';
import { Header } from 'tar';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { extractArchive } from './extract-archive.js';
import { inspectArchive } from './inspect-archive.js';

interface ZipEntry {
  readonly name: string;
  readonly data?: string | Buffer;
  /** Unix mode with its type bits; 0 makes an archive without them. */
  readonly mode?: number;
  readonly declaredBytes?: number;
  readonly checksum?: number;
  /** Puts the entry's local header where an earlier entry's is. */
  readonly sharesDataOf?: number;
  readonly flags?: number;
}

function makeZip(entries: readonly ZipEntry[]): Buffer {
  const parts: Buffer[] = [];
  const directory: Buffer[] = [];
  const offsets: number[] = [];
  let offset = 0;
  for (const entry of entries) {
    const name = Buffer.from(entry.name);
    const data = Buffer.from(entry.data ?? '');
    const packed = deflateRawSync(data);
    const fields = Buffer.alloc(26);
    fields.writeUInt16LE(20, 0);
    fields.writeUInt16LE(0x800 | (entry.flags ?? 0), 2);
    fields.writeUInt16LE(8, 4);
    fields.writeUInt32LE(entry.checksum ?? crc32(data), 10);
    fields.writeUInt32LE(packed.length, 14);
    fields.writeUInt32LE(entry.declaredBytes ?? data.length, 18);
    fields.writeUInt16LE(name.length, 22);
    const local = Buffer.concat([Buffer.from('PK\x03\x04'), fields, name, packed]);
    const at = entry.sharesDataOf === undefined ? offset : (offsets[entry.sharesDataOf] ?? 0);
    offsets.push(at);
    if (entry.sharesDataOf === undefined) {
      parts.push(local);
      offset += local.length;
    }
    const tail = Buffer.alloc(14);
    tail.writeUInt32LE(((entry.mode ?? 0) << 16) >>> 0, 6);
    tail.writeUInt32LE(at, 10);
    const madeBy = Buffer.from([20, entry.mode === undefined ? 0 : 3]);
    directory.push(Buffer.concat([Buffer.from('PK\x01\x02'), madeBy, fields, tail, name]));
  }
  const central = Buffer.concat(directory);
  const end = Buffer.alloc(22);
  end.write('PK\x05\x06');
  end.writeUInt16LE(entries.length, 8);
  end.writeUInt16LE(entries.length, 10);
  end.writeUInt32LE(central.length, 12);
  end.writeUInt32LE(offset, 16);
  return Buffer.concat([...parts, central, end]);
}

interface TarEntry {
  readonly name: string;
  readonly data?: string | Buffer;
  readonly mode?: number;
  readonly type?: 'File' | 'Directory' | 'SymbolicLink' | 'Link' | 'CharacterDevice' | 'BlockDevice' | 'FIFO';
  readonly target?: string;
  readonly declaredBytes?: number;
}

function makeTar(entries: readonly TarEntry[]): Buffer {
  const parts: Buffer[] = [];
  for (const entry of entries) {
    const data = Buffer.from(entry.data ?? '');
    const block = Buffer.alloc(512);
    new Header({
      path: entry.name,
      mode: entry.mode ?? 0o644,
      size: entry.declaredBytes ?? data.length,
      type: entry.type ?? 'File',
      linkpath: entry.target ?? '',
      mtime: new Date(0),
    }).encode(block, 0);
    parts.push(block, data, Buffer.alloc((512 - (data.length % 512)) % 512));
  }
  return Buffer.concat([...parts, Buffer.alloc(1024)]);
}

const makeTarGz = (entries: readonly TarEntry[]): Buffer => gzipSync(makeTar(entries));
const LINK = 0o120777;

let directory: string;
beforeEach(async () => {
  directory = join(await mkdtemp(join(tmpdir(), 'archives-')), 'inside');
  await mkdir(directory);
});
afterEach(async () => {
  await rm(dirname(directory), { recursive: true, force: true });
});

/** Neither reading accepts it, and extraction leaves nothing outside its directory. */
async function expectRefused(archive: Buffer, code: string): Promise<void> {
  await expect(inspectArchive(archive)).rejects.toMatchObject({ name: 'FleetError', code });
  await expect(extractArchive(archive, directory)).rejects.toMatchObject({ name: 'FleetError', code });
  expect(await readdir(dirname(directory))).toEqual(['inside']);
}

describe.each([
  [
    'zip',
    (name: string, mode?: number) =>
      makeZip([{ name, data: 'x', ...(mode === undefined ? {} : { mode: 0o100000 | mode }) }]),
  ],
  ['tar.gz', (name: string, mode?: number) => makeTarGz([{ name, data: 'x', mode: mode ?? 0o644 }])],
] as const)('a name in a %s archive', (_, make) => {
  test.each([
    ['leaves the archive', '../evil'],
    ['leaves the archive from inside', 'a/../../evil'],
    ['has .. anywhere', 'a/../b'],
    ['is absolute', '/tmp/evil'],
    ['has a backslash', 'a\\..\\evil'],
    ['has a control character', 'a\nb'],
    ['is a Windows drive', 'C:\\evil'],
    ['has an empty component', 'a//b'],
  ])('is refused when it %s', async (_what, name) => {
    await expectRefused(make(name), 'invalid_archive');
  });

  test('is refused with a set-user-ID bit', async () => {
    await expectRefused(make('tool', 0o4755), 'invalid_archive');
  });
});

describe('hostile zip archives', () => {
  test.each([
    [
      'a name twice',
      [
        { name: 'a', data: '1' },
        { name: 'a', data: '2' },
      ],
    ],
    ['names that differ only in case', [{ name: 'Index.js' }, { name: 'index.JS' }]],
    ['folders that differ only in case', [{ name: 'Lib/a' }, { name: 'lib/b' }]],
    ['a file that is also a folder', [{ name: 'a' }, { name: 'a/b' }]],
    ['a folder that is also a file', [{ name: 'a/b' }, { name: 'a' }]],
    [
      'an entry beneath a link',
      [
        { name: 'a', data: 'b', mode: LINK },
        { name: 'a/x', data: '1' },
      ],
    ],
    ['an absolute link', [{ name: 'a', data: '/etc/passwd', mode: LINK }]],
    ['a link that leaves', [{ name: 'a/b', data: '../../x', mode: LINK }]],
    [
      'a link through a link',
      [
        { name: 's', data: '.', mode: LINK },
        { name: 't', data: 's/../../etc', mode: LINK },
      ],
    ],
    ['a device', [{ name: 'a', mode: 0o020666 }]],
    ['a path of more than 1024 bytes', [{ name: `${'d/'.repeat(600)}f` }]],
    ['a name of more than 255 bytes', [{ name: 'n'.repeat(256) }]],
    ['a wrong checksum', [{ name: 'a', data: 'x', checksum: 1 }]],
    ['more bytes than declared', [{ name: 'a', data: 'x'.repeat(100_000), declaredBytes: 10 }]],
    ['fewer bytes than declared', [{ name: 'a', data: 'x', declaredBytes: 10 }]],
    [
      'overlapping entries',
      [
        { name: 'a', data: 'x' },
        { name: 'b', data: 'x', sharesDataOf: 0 },
      ],
    ],
    ['encryption', [{ name: 'a', data: 'x', flags: 1 }]],
  ] satisfies [string, ZipEntry[]][])('are refused for %s', async (_, entries) => {
    await expectRefused(makeZip(entries), 'invalid_archive');
  });

  test('are refused before anything is unpacked when they declare too much', async () => {
    const archive = makeZip([
      { name: 'first', data: 'x' },
      { name: 'bomb', data: 'x', declaredBytes: 300 * 1024 * 1024 },
    ]);
    await expectRefused(archive, 'archive_too_large');
    expect(await readdir(directory)).toEqual([]);
  });

  test('are refused with more than 20,000 entries', async () => {
    await expectRefused(makeZip(Array.from({ length: 20_001 }, (_, i) => ({ name: `f${i}` }))), 'archive_too_large');
  });

  test('are refused when they are cut off', async () => {
    const whole = makeZip([{ name: 'a', data: 'x'.repeat(1000) }]);
    await expectRefused(whole.subarray(0, whole.length - 30), 'invalid_archive');
  });
});

describe('hostile tar.gz archives', () => {
  test.each([
    [
      'a name twice',
      [
        { name: 'a', data: '1' },
        { name: 'a', data: '2' },
      ],
    ],
    ['names that differ only in case', [{ name: 'Index.js' }, { name: 'index.JS' }]],
    [
      'an entry beneath a link',
      [
        { name: 'a', type: 'SymbolicLink', target: 'b' },
        { name: 'a/x', data: '1' },
      ],
    ],
    ['an absolute link', [{ name: 'a', type: 'SymbolicLink', target: '/etc' }]],
    ['a link that leaves', [{ name: 'a', type: 'SymbolicLink', target: '../x' }]],
    ['a chain of links', [{ name: 'a', type: 'SymbolicLink', target: 'b/..' }]],
    [
      'a hard link',
      [
        { name: 'x', data: '1' },
        { name: 'a', type: 'Link', target: 'x' },
      ],
    ],
    ['a hard link to outside', [{ name: 'a', type: 'Link', target: '/etc/passwd' }]],
    ['a character device', [{ name: 'a', type: 'CharacterDevice' }]],
    ['a block device', [{ name: 'a', type: 'BlockDevice' }]],
    ['a pipe', [{ name: 'a', type: 'FIFO' }]],
    ['content that is cut off', [{ name: 'a', data: 'x', declaredBytes: 5000 }]],
  ] satisfies [string, TarEntry[]][])('are refused for %s', async (_, entries) => {
    await expectRefused(makeTarGz(entries), 'invalid_archive');
  });

  test('are refused when they declare too much', async () => {
    await expectRefused(
      makeTarGz([{ name: 'bomb', data: 'x', declaredBytes: 300 * 1024 * 1024 }]),
      'archive_too_large',
    );
  });

  test('are refused with too many entries', async () => {
    const limits = { unpackedBytesMax: 1024, entriesMax: 2 };
    const archive = makeTarGz([{ name: 'a' }, { name: 'b' }, { name: 'c' }]);
    await expect(inspectArchive(archive, limits)).rejects.toMatchObject({ code: 'archive_too_large' });
    await expect(extractArchive(archive, directory, limits)).rejects.toMatchObject({ code: 'archive_too_large' });
  });

  test('are refused when padding never ends, without unpacking all of it', async () => {
    const limits = { unpackedBytesMax: 1024, entriesMax: 4 };
    const archive = gzipSync(Buffer.concat([makeTar([{ name: 'a', data: 'x' }]), Buffer.alloc(4 * 1024 * 1024)]));
    await expect(inspectArchive(archive, limits)).rejects.toMatchObject({ code: 'archive_too_large' });
  });

  test('are refused when they are compressed twice', async () => {
    await expectRefused(gzipSync(makeTarGz([{ name: 'a', data: 'x' }])), 'invalid_archive');
  });

  test('are refused when the compression is cut off', async () => {
    const whole = makeTarGz([{ name: 'a', data: Buffer.from(Array.from({ length: 5000 }, (_, i) => i % 251)) }]);
    await expectRefused(whole.subarray(0, whole.length / 2), 'invalid_archive');
  });
});

test.each([
  ['nothing', Buffer.alloc(0)],
  ['text', Buffer.from('exports.handler = () => 1;')],
  ['an empty zip', makeZip([])],
  ['a gzip of no tar', gzipSync('hello')],
])('%s is no archive', async (_, bytes) => {
  await expectRefused(bytes, 'invalid_archive');
});

const PLAIN_MODE = 0o777;

test.each([
  [
    'zip' as const,
    makeZip([
      { name: 'index.mjs', data: 'export const handler = 1;' },
      { name: 'bin/tool', data: '#!', mode: 0o100755 },
      { name: 'bin/alias', data: 'tool', mode: LINK },
      { name: 'bin/up', data: '../index.mjs', mode: LINK },
      { name: 'empty/', mode: 0o040700 },
    ]),
  ],
  [
    'tar.gz' as const,
    makeTarGz([
      { name: './', type: 'Directory', mode: 0o700 },
      { name: './index.mjs', data: 'export const handler = 1;', mode: 0o600 },
      { name: './bin/tool', data: '#!', mode: 0o700 },
      { name: './bin/alias', type: 'SymbolicLink', target: 'tool' },
      { name: './bin/up', type: 'SymbolicLink', target: '../index.mjs' },
      { name: './empty/', type: 'Directory', mode: 0o2700 },
    ]),
  ],
])('a good %s archive is extracted with plain permissions and its links', async (format, archive) => {
  const inspected = await inspectArchive(archive);
  expect(inspected).toMatchObject({ format, unpackedBytes: 27 });
  expect(inspected.has('index.mjs')).toBe(true);
  expect(inspected.has('bin')).toBe(false);
  await extractArchive(archive, directory);
  expect(await readFile(join(directory, 'bin/up'), 'utf8')).toBe('export const handler = 1;');
  expect((await lstat(join(directory, 'bin/alias'))).isSymbolicLink()).toBe(true);
  const modes = await Promise.all(
    ['index.mjs', 'bin/tool', 'bin', 'empty'].map(
      async (name) => (await stat(join(directory, name))).mode & PLAIN_MODE,
    ),
  );
  expect(modes).toEqual([0o644, 0o755, 0o755, 0o755]);
});

test('an archive on disk is read like one in memory', async () => {
  const path = join(dirname(directory), 'archive');
  await writeFile(path, makeTarGz([{ name: 'a.py', data: 'x' }]));
  expect((await inspectArchive(path)).has('a.py')).toBe(true);
});

test('an error of the disk is not blamed on the archive', async () => {
  await rm(directory, { recursive: true });
  const archive = makeZip([{ name: 'a', data: 'x' }]);
  await expect(extractArchive(archive, directory)).rejects.toMatchObject({ code: 'ENOENT' });
});
