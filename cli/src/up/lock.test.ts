import { spawn } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { LockHeld, takeLock } from './lock.js';
import { processStart } from './process-identity.js';

let folder: string;
let file: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lambda-lock-'));
  file = join(folder, 'lock');
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const write = (holder: object | string) =>
  writeFile(file, typeof holder === 'string' ? holder : JSON.stringify(holder));

describe('the lock of a data directory', () => {
  it('is refused while its holder lives, naming it, and can be taken after the release', async () => {
    const lock = await takeLock(file, 'http://localhost:1');
    const refused = await takeLock(file, 'http://localhost:2').catch((err: unknown) => err);
    expect(refused).toBeInstanceOf(LockHeld);
    expect((refused as LockHeld).holder).toMatchObject({ pid: process.pid, endpoint: 'http://localhost:1' });
    await lock.release();
    const next = await takeLock(file, 'http://localhost:2');
    expect(next.tookOver).toBe(false);
    await next.release();
    expect(await readdir(folder)).toEqual([]);
  });

  it('is taken over from a process that is gone', async () => {
    const child = spawn(process.execPath, ['-e', '0']);
    const start = processStart(child.pid ?? 0);
    await new Promise((ended) => child.once('exit', ended));
    await write({ pid: child.pid, start, endpoint: '' });
    const lock = await takeLock(file, '');
    expect(lock.tookOver).toBe(true);
    await lock.release();
  });

  it('is taken over when another process has the pid now', async () => {
    await write({ pid: process.pid, start: 'another boot/1', endpoint: '' });
    expect((await takeLock(file, '')).tookOver).toBe(true);
  });

  it.each(['', '{', 'null', '{"pid":"x"}'])('is taken over when it reads %j', async (text) => {
    await write(text);
    expect((await takeLock(file, '')).tookOver).toBe(true);
  });

  it('has one winner when many take over a stale one at once', async () => {
    await write({ pid: process.pid, start: 'stale', endpoint: '' });
    const module = new URL('../../dist/up/lock.js', import.meta.url).href;
    const program = `
      const { takeLock } = await import('${module}');
      await takeLock(process.argv[1], '').then(() => process.stdout.write('won'), () => process.stdout.write('lost'));
      process.stdin.resume();`;
    const takers = Array.from({ length: 4 }, () =>
      spawn(process.execPath, ['--input-type=module', '-e', program, file]),
    );
    const said = await Promise.all(
      takers.map((taker) => new Promise<string>((settle) => taker.stdout.once('data', (text) => settle(String(text))))),
    );
    expect(said.sort()).toEqual(['lost', 'lost', 'lost', 'won']);
    expect(takers.map(({ pid }) => pid)).toContain(JSON.parse(await readFile(file, 'utf8')).pid);
    await Promise.all(
      takers.map((taker) => {
        taker.stdin.end();
        return new Promise((ended) => taker.once('exit', ended));
      }),
    );
  });
});
