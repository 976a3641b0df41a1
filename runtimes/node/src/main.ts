import { Channel } from './channel.js';
import { takeBootConfig } from './config.js';
import { Conversation } from './conversation.js';
import { encodeFrame, FrameReader, FrameType } from './frames.js';
import { IdleWatch } from './idle-watch.js';
import { exit, writeFd } from './intrinsics.js';
import { LogCapture } from './log-capture.js';
import { type ChannelStreams, openChannel } from './open-channel.js';
import { Preload } from './preload.js';

/** Ticks of a second without a byte from the agent, which pings every 10 s, before the runtime ends itself. */
const SILENT_TICKS_MAX = 30;

const config = takeBootConfig();
let connected = false;
const { incoming, outgoing } = open();
for (const stream of new Set([incoming, outgoing])) {
  stream.on('error', (error) => (connected ? exit(0) : fail(`cannot connect to its agent: ${error.message}`)));
  stream.on('close', () => exit(0));
}

function open(): ChannelStreams {
  try {
    return openChannel(config.channel, converse);
  } catch (thrown) {
    return fail(`cannot connect to its agent: ${thrown instanceof Error ? thrown.message : String(thrown)}`);
  }
}

function converse(streams: ChannelStreams): void {
  connected = true;
  const channel = new Channel(streams);
  const logs = new LogCapture(channel);
  const idleWatch = new IdleWatch(channel);
  const preload = new Preload();
  const conversation = new Conversation(channel, logs, config.taskRoot, config.codeCache, idleWatch, preload);
  const frames = new FrameReader((frame) => conversation.onFrame(frame));

  // Ticks are counted instead of clock time: a process that was frozen for a minute has missed at most one.
  let silentTicks = 0;
  setInterval(() => {
    silentTicks += 1;
    if (silentTicks >= SILENT_TICKS_MAX) {
      exit(0);
    }
  }, 1_000).unref();

  streams.incoming.on('data', (bytes: Buffer) => {
    silentTicks = 0;
    try {
      frames.push(bytes);
    } catch (thrown) {
      fail(`the agent broke the protocol: ${thrown instanceof Error ? thrown.message : String(thrown)}`);
    }
  });

  process.on('uncaughtException', (thrown) => conversation.onUncaught(thrown));
  process.on('unhandledRejection', (reason, promise) => conversation.onUnhandled(reason, promise));
  logs.install();
  channel.send(encodeFrame(FrameType.HELLO, hello(config.nonce)));
  preload.start();
}

function hello(nonce: string): string {
  const { version, pid } = process;
  return JSON.stringify({ protocol: 1, nonce, runtime: 'nodejs', version: version.slice(1), pid });
}

function fail(reason: string): never {
  const bytes = Buffer.from(`lambda runtime: ${reason}\n`);
  writeFd(2, bytes, 0, bytes.length);
  exit(1);
}
