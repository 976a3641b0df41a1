import { afterEach, beforeAll, describe, expect, test } from 'vitest';
import { ConformanceAgent, frameBytes, TRANSPORTS } from './conformance-agent.js';
import { buildRuntime } from './node/build.mjs';

/** A handler that prints as many numbered lines as its event says, in one go, says on descriptor 2 that it has, and returns its peak memory in MiB. */
const CODE = {
  nodejs: {
    'index.mjs': [
      "import { writeSync } from 'node:fs';",
      'export const handler = (lines) => {',
      '  for (let i = 0; i < lines; i++) console.log("line " + i + " of a flood that does not end soon");',
      "  writeSync(2, 'flooded');",
      '  return process.resourceUsage().maxRSS / 1024;',
      '};',
    ],
  },
  python: {
    'main.py': [
      'import os, resource',
      'def handler(lines):',
      '    for i in range(lines):',
      "        print('line', i, 'of a flood that does not end soon')",
      "    os.write(2, b'flooded')",
      '    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024',
    ],
  },
} as const;

const HANDLER = { nodejs: 'index.handler', python: 'main.handler' } as const;

/** Of a test; several times what the slowest needs, because the machine may be busy. */
const TEST_DEADLINE_MS = 60_000;

beforeAll(buildRuntime);

const FLOODS = (['nodejs', 'python'] as const).flatMap((family) =>
  TRANSPORTS.map((transport) => ({ family, transport })),
);

describe.each(FLOODS)('$family over $transport', ({ family, transport }) => {
  let agent: ConformanceAgent | undefined;

  afterEach(async () => {
    await agent?.close();
    agent = undefined;
  });

  async function flooding(lines: number): Promise<ConformanceAgent> {
    agent = await ConformanceAgent.start(family, CODE[family], transport);
    await agent.nextFrame();
    const names = { handler: HANDLER[family], functionName: 'f', functionVersion: '1', functionArn: 'a' };
    const rest = { memoryMb: 128, timeoutMs: 1, environment: {}, logGroup: 'g', logStream: 's', concurrency: 1 };
    agent.send(frameBytes('INIT', { ...names, ...rest, realm: '' }));
    await agent.nextFrame();
    const invoke = { id: 'flood', deadlineMs: 0, arn: 'a', traceId: '', clientContext: '', http: false };
    agent.send(frameBytes('INVOKE', invoke, Buffer.from(String(lines))));
    return agent;
  }

  /** Reads to the result. Returns the peak memory in MiB, the lines in order and what markers say was dropped. */
  async function drain(from: ConformanceAgent) {
    const numbers: number[] = [];
    let dropped = 0;
    for (;;) {
      const frame = await from.nextFrame();
      const text = frame.body.toString();
      if (frame.type !== 'LOG') {
        expect(frame.type).toBe('RESPONSE');
        return { peakMib: Number(text), numbers, dropped };
      }
      const marker = /^\[\.\.\. (\d+) lines dropped\]$/.exec(text);
      if (marker === null) {
        numbers.push(Number(text.split(' ', 2)[1]));
      } else {
        dropped += Number(marker[1]);
      }
    }
  }

  test(
    'an agent that reads gets every line of a flood, in order, and memory stays flat',
    async () => {
      const lines = 100_000;
      const { numbers, dropped, peakMib } = await drain(await flooding(lines));
      expect(dropped).toBe(0);
      expect(numbers).toHaveLength(lines);
      expect(numbers.every((number, at) => number === at)).toBe(true);
      expect(peakMib).toBeLessThan(120);
    },
    TEST_DEADLINE_MS,
  );

  test(
    'an agent that does not read gets the result, and is told how many lines it missed',
    async () => {
      const lines = 100_000;
      const from = await flooding(lines);
      from.pause(true);
      await from.stderrHolds('flooded');
      from.pause(false);
      const { numbers, dropped, peakMib } = await drain(from);
      expect(dropped).toBeGreaterThan(0);
      expect(numbers.length + dropped).toBe(lines);
      expect(peakMib).toBeLessThan(120);
    },
    TEST_DEADLINE_MS,
  );
});
