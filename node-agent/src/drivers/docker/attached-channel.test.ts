import { PassThrough } from 'node:stream';
import { expect, test } from 'vitest';
import { ReadGate } from '../../channel/read-gate.js';
import { AttachedChannel } from './attached-channel.js';

test('it opens with the first byte, and what comes before somebody listens is kept', async () => {
  const attached = new PassThrough();
  const channel = new AttachedChannel(attached, new ReadGate(attached));
  channel.receive(Buffer.from('hel'));
  channel.receive(Buffer.from('lo'));
  const opened = await channel.opened;
  let seen = '';
  opened.on('data', (bytes: Buffer) => {
    seen += bytes.toString();
  });
  await expect.poll(() => seen).toBe('hello');
});

test('it rejects when the stream ends before the first byte', async () => {
  const attached = new PassThrough();
  const channel = new AttachedChannel(attached, new ReadGate(attached));
  attached.resume().end();
  await expect(channel.opened).rejects.toThrow(/ended before/);
});

test('a reader that does not keep up pauses the stream until it reads again', async () => {
  const attached = new PassThrough();
  const channel = new AttachedChannel(attached, new ReadGate(attached));
  attached.resume();
  const piece = Buffer.alloc(64 * 1024);
  channel.receive(piece);
  expect(attached.isPaused()).toBe(true);
  channel.resume();
  await expect.poll(() => attached.isPaused()).toBe(false);
});

test('what is written reaches the stream, head and body alike', () => {
  const attached = new PassThrough();
  const channel = new AttachedChannel(attached, new ReadGate(attached));
  channel.cork();
  channel.write('head');
  channel.write('body');
  channel.uncork();
  expect(String(attached.read())).toBe('headbody');
});

test('it closes when the stream ends, with everything that came before', async () => {
  const attached = new PassThrough();
  const channel = new AttachedChannel(attached, new ReadGate(attached));
  let seen = '';
  channel.on('data', (bytes: Buffer) => {
    seen += bytes.toString();
  });
  const closed = new Promise<string>((resolve) => channel.on('close', () => resolve(seen)));
  channel.receive(Buffer.from('last words'));
  attached.resume().end();
  expect(await closed).toBe('last words');
});

test('closing it closes the input, and leaves the rest of the stream to be read', async () => {
  const attached = new PassThrough({ allowHalfOpen: true });
  const channel = new AttachedChannel(attached, new ReadGate(attached));
  channel.receive(Buffer.alloc(64 * 1024));
  expect(attached.isPaused()).toBe(true);
  channel.destroy();
  await expect.poll(() => attached.writableEnded).toBe(true);
  expect(attached.isPaused()).toBe(false);
  expect(attached.destroyed).toBe(false);
  channel.receive(Buffer.from('too late'));
});
