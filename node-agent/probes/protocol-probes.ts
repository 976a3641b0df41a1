import crypto from 'node:crypto';
import { syncBuiltinESMExports } from 'node:module';
import { connect } from 'node:net';
import { join } from 'node:path';
import { LogStream, Outcome } from '@lambda-fleet/proto';
import { FrameType } from '../src/channel/frame.js';
import { FrameParser } from '../src/channel/frame-parser.js';
import { InvocationLog } from '../src/invocations/invocation-log.js';
import type { Ended } from '../test-support/host-under-test.js';
import { forgeries, frame } from './forgeries.js';
import { hostileSource } from './ground.js';
import { type Probe, replaceMethod } from './probe.js';

const LOG_LINES_MAX = 10_000;
const AGENT_GROWTH_MAX = 64 * 1024 * 1024;

export const protocolProbes: readonly Probe[] = [
  {
    name: 'forged frames end their own sandbox and nothing else',
    area: 'protocol',
    slow: true,
    attempt:
      'writes fourteen kinds of frames that it may not send to every descriptor of every process, itself and from a child',
    judge:
      'the error is `Runtime.ProtocolViolation` each time, the agent goes on, and a neighbour’s call is answered meanwhile',
    async run(ground) {
      const neighbour = await ground.deploy('export const handler = async () => "mine";');
      await ground.call(neighbour);
      const [running, another] = [`running-${ground.isolation}`, `another-${ground.isolation}`];
      const harms: string[] = [];
      for (const [name, bytes] of Object.entries(forgeries(running, another))) {
        const spec = await ground.deployHostile({ timeoutMs: ground.unprotected ? 500 : 10_000, memoryMb: 128 });
        const event = { attempt: 'protocol.forge', with: { data: bytes.toString('base64') } };
        const [end, other] = await Promise.all([
          ground.call(spec, { event, id: running }),
          ground.call(neighbour, { id: another }),
        ]);
        if (other.text !== '"mine"') harms.push(`the neighbour got ${other.text}`);
        harms.push(...unlessViolation(end, name));
        if (ground.unprotected) break;
      }
      return harms;
    },
    withoutDefence: {
      removed: 'the parser’s refusals',
      isolations: ['runc', 'gvisor'],
      replace: () => {
        const { push } = FrameParser.prototype;
        return replaceMethod(FrameParser.prototype, 'push', function (this: FrameParser, chunk: Buffer) {
          try {
            push.call(this, chunk);
          } catch {
            // Whatever it was, go on.
          }
        });
      },
    },
  },
  {
    name: 'nobody greets a second time, not even with the right nonce',
    area: 'protocol',
    attempt:
      'takes the nonce from the first process’s environment, and greets in the channel and over a new connection',
    judge: 'the error is `Runtime.ProtocolViolation`',
    async run(ground) {
      const spec = await ground.deployHostile({ memoryMb: 128 });
      return unlessViolation(await ground.call(spec, { event: { attempt: 'protocol.greet_again' } }), 'a greeting');
    },
  },
  {
    name: 'whoever is first at the socket without the nonce is not taken for the runtime',
    area: 'protocol',
    attempt: 'a stranger on the host connects before the runtime does, greets with a made-up nonce, and answers for it',
    judge: 'its answer is not the result, and the call is not started',
    async run(ground) {
      const spec = await ground.deployHostile({ memoryMb: 128 });
      ground.onStart = (asked) => {
        const channel = asked.HostConfig?.Mounts?.find(({ Target }) => Target === '/run/lambda')?.Source ?? '';
        impersonate(join(channel, 'agent.sock'));
      };
      try {
        const end = await ground.call(spec, { event: {} });
        return end.outcome === Outcome.NOT_STARTED ? [] : [`the call ended with ${end.error?.errorType ?? end.text}`];
      } finally {
        ground.onStart = undefined;
      }
    },
    withoutDefence: {
      removed: 'the comparison of the nonce',
      isolations: ['runc', 'gvisor'],
      replace: acceptEveryNonce,
    },
  },
  {
    name: 'a channel that is filled ends or waits, and the agent’s memory does not grow',
    area: 'protocol',
    slow: true,
    attempt: 'writes log frames from many threads into each other, without ever reading',
    judge: 'the error is `Runtime.ProtocolViolation` or the timeout; the agent is not 64 MB larger',
    async run(ground) {
      const spec = await ground.deployHostile({ memoryMb: 128, timeoutMs: 1_500 });
      const buffers = watchBuffers();
      const end = await ground.call(spec, { event: { attempt: 'protocol.drown' } });
      const wrong = ['Runtime.ProtocolViolation', 'Sandbox.Timedout'].includes(end.error?.errorType ?? '');
      return [...(wrong ? [] : [`it ended with ${end.error?.errorType}`]), ...buffers.most()];
    },
  },
  {
    name: 'results that are traps end with the right error',
    area: 'protocol',
    slow: true,
    attempt:
      'returns promises that never settle, getters that throw or exit, cycles, 100,000 levels, proxies, a spoilt language',
    judge:
      'each ends with the error or the result that PROTOCOL.md names, and the sandbox takes the next call where it lives on',
    async run(ground) {
      const spec = await ground.deploy(
        { 'index.mjs': await hostileSource('results.mjs') },
        { timeoutMs: 1_000, memoryMb: 256 },
      );
      const harms: string[] = [];
      for (const [result, expected] of Object.entries(RESULTS)) {
        const end = await ground.call(spec, { event: { result } });
        const actual = end.error?.errorType ?? end.text;
        if (actual !== expected) harms.push(`${result}: ${actual} instead of ${expected}`);
      }
      return harms;
    },
  },
  {
    name: 'log lines cannot pass for the platform’s or for more than they are',
    area: 'protocol',
    attempt:
      'prints START, END and REPORT lines, terminal commands, line breaks of all kinds, NUL, invalid UTF-8, also past the runtime',
    judge:
      'every line is one of the function’s own, tagged with its invocation, without a line break or NUL, in valid text',
    async run(ground) {
      const spec = await ground.deploy({ 'index.mjs': await hostileSource('log-injection.mjs') });
      const { logs, text } = await ground.call(spec, { id: 'injecting' });
      const harms = logs.flatMap((line) => {
        const own = line.stream === LogStream.STDOUT && line.invocationId === 'injecting';
        return own && !/[\n\0]/.test(line.text) && line.text.isWellFormed() ? [] : [`the line ${JSON.stringify(line)}`];
      });
      const printed = JSON.parse(text) as readonly string[];
      const missing = printed.filter((line) => !logs.some((one) => one.text === line.replaceAll('\0', '\ufffd')));
      return [...harms, ...missing.map((line) => `${JSON.stringify(line)} did not arrive as it was printed`)];
    },
  },
  {
    name: 'a flood of log lines is cut and counted, and its result arrives',
    area: 'protocol',
    slow: true,
    attempt: 'prints a million lines; under gVisor, where each costs a call of another kernel, a hundred thousand',
    judge:
      'no more than 10,000 lines leave the agent, the last one says how many do not, and the agent is not 64 MB larger',
    async run(ground) {
      const lines = ground.unprotected ? 20_000 : ground.isolation === 'gvisor' ? 100_000 : 1_000_000;
      const spec = await ground.deploy(
        `export const handler = async () => { for (let i = 0; i < ${lines}; i += 1) console.log('line', i); return 'whole'; };`,
        { timeoutMs: 60_000 },
      );
      const buffers = watchBuffers();
      const end = await ground.call(spec);
      const grown = buffers.most();
      return [
        ...(end.text === '"whole"' ? [] : [`it ended with ${end.error?.errorType ?? end.text}`]),
        ...(end.logs.length > LOG_LINES_MAX + 1 ? [`${end.logs.length} lines left the agent`] : []),
        ...(end.logs.at(-1)?.stream === LogStream.PLATFORM ? [] : ['nothing says that lines are missing']),
        ...grown,
      ];
    },
    withoutDefence: {
      removed: 'the limit of an invocation’s log',
      isolations: ['runc', 'gvisor'],
      replace: () => replaceMethod(InvocationLog.prototype, 'admit', () => true),
    },
  },
  {
    name: 'a gigabyte without a line break is cut, and the agent’s memory does not grow',
    area: 'protocol',
    slow: true,
    attempt: 'prints a gigabyte of one letter',
    judge: 'no more than a megabyte leaves the agent, no line is longer than 64 KiB, and the agent is not 64 MB larger',
    async run(ground) {
      const spec = await ground.deploy(
        `const block = 'x'.repeat(1024 * 1024);
         export const handler = async () => { for (let i = 0; i < 1024; i += 1) process.stdout.write(block); return 'whole'; };`,
        { timeoutMs: 60_000, memoryMb: 256 },
      );
      const buffers = watchBuffers();
      const end = await ground.call(spec);
      const grown = buffers.most();
      const bytes = end.logs.reduce((sum, { text }) => sum + text.length, 0);
      const longest = Math.max(...end.logs.map(({ text }) => text.length));
      return [
        ...(end.text === '"whole"' ? [] : [`it ended with ${end.error?.errorType ?? end.text}`]),
        ...(bytes > 1024 * 1024 + 1_000 ? [`${bytes} bytes left the agent`] : []),
        ...(longest > 64 * 1024 ? [`a line of ${longest} bytes`] : []),
        ...grown,
      ];
    },
  },
];

/** What each of `hostile/results.mjs` ends with: an error, or a result. */
const RESULTS: Readonly<Record<string, string>> = {
  'a then that throws': 'Error',
  'a then that is no function': '{"then":1,"ok":true}',
  'a then that settles twice': '"first"',
  'a getter that throws': 'Runtime.MarshalError',
  'a cycle': 'Runtime.MarshalError',
  'a hundred thousand levels': 'Runtime.MarshalError',
  'a number without JSON': 'Runtime.MarshalError',
  'a proxy that throws': 'Error',
  'a toJSON without end of text': 'Function.ResponseSizeTooLarge',
  'an error whose message is a trap': 'Error',
  'a thrown proxy': 'Error',
  'text before the result': '"after"',
  'a getter that ends the process': 'Runtime.ExitError',
  'a promise that never settles': 'Sandbox.Timedout',
  'a toJSON that never ends': 'Sandbox.Timedout',
  'a spoilt language': '"still here"',
};

function unlessViolation(end: Ended, what: string): string[] {
  const actual = end.error?.errorType ?? end.text;
  return actual === 'Runtime.ProtocolViolation' ? [] : [`${what} ended with ${actual}`];
}

/** Plays the runtime of a sandbox, without knowing its nonce. */
function impersonate(path: string): void {
  const stranger = connect(path);
  const hello = { protocol: 1, nonce: '0'.repeat(32), runtime: 'python', version: '1', pid: 1 };
  stranger.on('error', () => {}).write(frame(FrameType.HELLO, hello));
  const parser = new FrameParser(({ type, meta }) => {
    if (type === FrameType.INIT) stranger.write(frame(FrameType.READY, {}));
    if (type === FrameType.INVOKE) {
      const { id } = JSON.parse(meta.toString()) as { readonly id: string };
      stranger.end(frame(FrameType.RESPONSE, { id }, '"forged"'));
    }
    return true;
  });
  stranger.on('data', (chunk) => parser.push(chunk));
}

function acceptEveryNonce(): () => void {
  const putBack = replaceMethod(crypto, 'timingSafeEqual', () => true);
  syncBuiltinESMExports();
  return () => {
    putBack();
    syncBuiltinESMExports();
  };
}

/** Watches what the agent holds outside of V8's heap, where received bytes are. */
function watchBuffers(): { most(): string[] } {
  const held = () => process.memoryUsage().arrayBuffers;
  const before = held();
  let most = before;
  const timer = setInterval(() => {
    most = Math.max(most, held());
  }, 20);
  return {
    most() {
      clearInterval(timer);
      const grown = Math.max(most, held()) - before;
      return grown > AGENT_GROWTH_MAX ? [`the agent grew by ${grown} bytes`] : [];
    },
  };
}
