import { EventEmitter } from 'node:events';
import { describe, expect, it } from 'vitest';
import { ChunkSender } from './chunk-sender.js';
import { CHUNK_BYTES_MAX } from './limits.js';

class Stream extends EventEmitter {
  readonly frames: { ref: string; bytes: number }[] = [];
  room = Number.POSITIVE_INFINITY;

  write(frame: { ref: string; bytes: number }): boolean {
    this.frames.push(frame);
    this.room -= 1;
    return this.room > 0;
  }
}

const sender = () =>
  new ChunkSender<string, { ref: string; bytes: number }>((ref, data) => ({ ref, bytes: data.length }));

describe('ChunkSender', () => {
  it('splits a body into chunks that add up to it', () => {
    const stream = new Stream();
    const chunks = sender();
    chunks.attach(stream);
    chunks.send('a', Buffer.alloc(CHUNK_BYTES_MAX * 2 + 1));
    expect(stream.frames.map((frame) => frame.bytes)).toEqual([CHUNK_BYTES_MAX, CHUNK_BYTES_MAX, 1]);
  });

  it('gives each body a chunk in turn', () => {
    const stream = new Stream();
    stream.room = 1;
    const chunks = sender();
    chunks.attach(stream);
    chunks.send('large', Buffer.alloc(CHUNK_BYTES_MAX * 3));
    chunks.send('small', Buffer.alloc(10));
    stream.room = Number.POSITIVE_INFINITY;
    stream.emit('drain');
    expect(stream.frames.map((frame) => frame.ref)).toEqual(['large', 'large', 'small', 'large']);
  });

  it('writes nothing while the stream asks to wait', () => {
    const stream = new Stream();
    stream.room = 1;
    const chunks = sender();
    chunks.attach(stream);
    chunks.send('a', Buffer.alloc(CHUNK_BYTES_MAX * 2));
    expect(stream.frames).toHaveLength(1);
  });

  it('drops what is queued when the stream goes', () => {
    const chunks = sender();
    chunks.send('a', Buffer.alloc(10));
    chunks.detach();
    const stream = new Stream();
    chunks.attach(stream);
    expect(stream.frames).toEqual([]);
  });
});
