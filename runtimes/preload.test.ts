import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeAll, expect, test } from 'vitest';
import { ConformanceAgent, frameBytes } from './conformance-agent.js';
import type { Code, RuntimeFamily } from './conformance-fixture.js';
import { buildRuntime } from './node/build.mjs';

/** Of a test; several times what the slowest needs, because the machine may be busy. */
const TEST_DEADLINE_MS = 60_000;
const FIRST_WAIT_MS = 100;
const HANDLERS = { nodejs: 'index.handler', python: 'main.handler' } as const;

/** Says what is loaded that it did not load, and what it sees. */
const CODE: Readonly<Record<RuntimeFamily, Code>> = {
  nodejs: {
    'index.js': [
      'const loaded = process.moduleLoadList.includes("NativeModule http");',
      'const sees = () => [Reflect.ownKeys(globalThis).map(String), Object.keys(process.env), process.execArgv,',
      '  Object.keys(require.cache).length, process.eventNames().map(String), process.getActiveResourcesInfo().length];',
      'exports.handler = () => ({ loaded, sees: sees() });',
    ],
  },
  python: {
    'main.py': [
      'import os, sys',
      'loaded = "decimal" in sys.modules',
      'import uuid',
      'def handler(event):',
      '    return {"loaded": loaded, "sees": [uuid.mine, sorted(os.environ), sys.path, len(sys.meta_path)]}',
    ],
    'uuid.py': ['mine = True'],
  },
};

interface Answer {
  readonly loaded: boolean;
  readonly sees: unknown;
}

let agent: ConformanceAgent | undefined;

beforeAll(buildRuntime);
afterEach(async () => {
  await agent?.close();
  agent = undefined;
});

/** Gives a runtime its code after so long, and calls it. */
async function answerAfter(family: RuntimeFamily, waitMs: number, folder: string): Promise<Answer> {
  await agent?.close();
  agent = await ConformanceAgent.start(family, CODE[family], 'socket', { taskRoot: folder });
  await agent.nextFrame();
  await new Promise((resolve) => setTimeout(resolve, waitMs));
  agent.send(frameBytes('PING', {}));
  const { type, body } = await agent.nextFrame();
  expect([type, body.toString()]).toEqual(['PONG', '']);
  const names = { handler: HANDLERS[family], functionName: 'f', functionVersion: '1', functionArn: 'a', memoryMb: 128 };
  const rest = { timeoutMs: 1, environment: {}, logGroup: 'g', logStream: 's', concurrency: 1, realm: '' };
  agent.send(frameBytes('INIT', { ...names, ...rest }));
  expect((await agent.nextFrame()).type).toBe('READY');
  const invoke = { id: 'i', deadlineMs: 0, arn: 'a', traceId: '', clientContext: '', http: false };
  agent.send(frameBytes('INVOKE', invoke, Buffer.from('{}')));
  return JSON.parse((await agent.nextFrame()).body.toString()) as Answer;
}

test.each(['nodejs', 'python'] as const)(
  'a %s runtime that has waited has loaded what code will ask for, and code sees nothing of it',
  async (family) => {
    const folder = mkdtempSync(join(tmpdir(), 'lambda-preload-'));
    try {
      const atOnce = await answerAfter(family, 0, folder);
      expect(atOnce.loaded).toBe(false);
      let later = atOnce;
      for (let waitMs = FIRST_WAIT_MS; !later.loaded && waitMs < TEST_DEADLINE_MS / 4; waitMs *= 2) {
        later = await answerAfter(family, waitMs, folder);
      }
      expect(later).toEqual({ loaded: true, sees: atOnce.sees });
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  },
  TEST_DEADLINE_MS,
);
