import { describe, expect, it } from 'vitest';
import { readEventStream, type ServerEvent } from './event-stream.js';

async function read(...chunks: (string | Buffer)[]): Promise<ServerEvent[]> {
  async function* source() {
    for (const chunk of chunks) yield Buffer.from(chunk);
  }
  const events: ServerEvent[] = [];
  for await (const event of readEventStream(source())) events.push(event);
  return events;
}

describe('an event stream', () => {
  it('is read whatever way it is cut into chunks', async () => {
    const text = 'id: 1\nevent: log\ndata: {"text":"žluť"}\n\n: comment\r\nid: 2\r\ndata: a\r\ndata: b\r\n\r\n';
    const whole = await read(text);
    expect(whole).toEqual([
      { event: 'log', id: '1', data: '{"text":"žluť"}' },
      { event: 'message', id: '2', data: 'a\nb' },
    ]);
    const bytes = Buffer.from(text);
    expect(await read(...Array.from(bytes, (_, at) => bytes.subarray(at, at + 1)))).toEqual(whole);
  });

  it('gives nothing for an event that was cut off', async () => {
    expect(await read('id: 1\ndata: half')).toEqual([]);
  });

  it('ends with an error when an event has no end', async () => {
    const megabyte = 'x'.repeat(1024 * 1024);
    await expect(read('data: ', megabyte, megabyte, megabyte, megabyte, megabyte)).rejects.toThrow('without an end');
    await expect(read(...Array.from({ length: 5 }, () => `data: ${megabyte}\n`))).rejects.toThrow('without an end');
  });
});
