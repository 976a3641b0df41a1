import { encodeHead, FrameType } from '../src/channel/frame.js';

export const frame = (type: number, meta: object, body = '') =>
  Buffer.concat([encodeHead(type, meta, Buffer.byteLength(body)), Buffer.from(body)]);

/** An ERROR that names a running invocation with meta of this text. */
function errorWith(meta: string): Buffer {
  const head = Buffer.alloc(9);
  head.writeUInt32BE(5 + meta.length);
  head.writeUInt8(FrameType.ERROR, 4);
  head.writeUInt32BE(meta.length, 5);
  return Buffer.concat([head, Buffer.from(meta)]);
}

/**
 * Bytes that the runtime never writes; each has to end the conversation.
 *
 * @param running the invocation in whose sandbox they are written
 * @param another one that runs in another sandbox
 */
export function forgeries(running: string, another: string): Readonly<Record<string, Buffer>> {
  return {
    'a frame of no length': Buffer.alloc(64),
    'a frame of 4 GB': Buffer.alloc(64, 0xff),
    text: Buffer.from('HTTP/1.1 200 OK\r\n\r\n'),
    'meta longer than its frame': Buffer.from([0, 0, 0, 5, FrameType.RESPONSE, 0, 0, 0, 9]),
    'meta that is no object': errorWith('[]'),
    'a result of another invocation': frame(FrameType.RESPONSE, { id: another }, '"forged"'),
    'a second READY': frame(FrameType.READY, {}),
    'a PONG without a PING': frame(FrameType.PONG, {}),
    'a frame that only the agent sends': frame(FrameType.INIT, {}),
    'an unknown type': frame(0x55, {}),
    'a trace that throws': errorWith(
      `{"id":"${running}","errorType":"x","errorMessage":"y","trace":[{"toString":null,"valueOf":null}]}`,
    ),
    'a trace without end': errorWith(
      `{"id":"${running}","errorType":"x","errorMessage":"y","trace":${'['.repeat(60_000)}${']'.repeat(60_000)}}`,
    ),
    'a log line that is two': frame(FrameType.LOG, { id: running, stream: 'stdout', level: '', ts: 1 }, 'a\nb'),
    'a log line of the platform': frame(FrameType.LOG, { id: running, stream: 'platform', level: '', ts: 1 }, 'a'),
  };
}
