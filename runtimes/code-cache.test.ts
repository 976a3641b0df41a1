import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import Module from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { ConformanceAgent, frameBytes } from './conformance-agent.js';
import type { Code, RuntimeFamily } from './conformance-fixture.js';
import { buildRuntime } from './node/build.mjs';

/** Of a test; several times what the slowest needs, because the machine may be busy. */
const TEST_DEADLINE_MS = 30_000;
const HANDLERS = { nodejs: 'index.handler', python: 'main.handler' } as const;

let folder = '';
let agents: ConformanceAgent[] = [];

beforeAll(buildRuntime);

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'lambda-code-cache-'));
});

afterEach(async () => {
  await Promise.all(agents.map((agent) => agent.close()));
  agents = [];
  rmSync(folder, { recursive: true, force: true });
});

const cache = () => join(folder, 'cache');

async function start(
  family: RuntimeFamily,
  code: Code,
  environment: Record<string, string>,
  task = 'task',
): Promise<ConformanceAgent> {
  const agent = await ConformanceAgent.start(family, code, 'socket', { taskRoot: join(folder, task), environment });
  agents.push(agent);
  await agent.nextFrame();
  return agent;
}

/** Compiles the code in a runtime of its own, keeps what it makes, and returns the paths. */
async function compile(family: RuntimeFamily, code: Code): Promise<string[]> {
  const agent = await start(family, code, {});
  agent.send(frameBytes('COMPILE', {}));
  const paths: string[] = [];
  for (;;) {
    const { type, meta, body } = await agent.nextFrame();
    expect(type).toBe('COMPILED');
    if (meta.done === true) return paths.sort();
    const file = join(cache(), String(meta.path));
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, body);
    paths.push(String(meta.path));
  }
}

/** Loads the code with the cache and calls its handler. */
async function call(family: RuntimeFamily, environment: Record<string, string> = {}, task = 'task') {
  const agent = await start(family, {}, { LAMBDA_CODE_CACHE: cache(), ...environment }, task);
  const names = { handler: HANDLERS[family], functionName: 'f', functionVersion: '1', functionArn: 'a', memoryMb: 128 };
  const rest = { timeoutMs: 1, environment: {}, logGroup: 'g', logStream: 's', concurrency: 1, realm: '' };
  agent.send(frameBytes('INIT', { ...names, ...rest }));
  const ready = await agent.nextFrame();
  expect([ready.type, ready.meta]).toEqual(['READY', {}]);
  const invoke = { id: 'i', deadlineMs: 0, arn: 'a', traceId: '', clientContext: '', http: false };
  agent.send(frameBytes('INVOKE', invoke, Buffer.from('{}')));
  const { type, body } = await agent.nextFrame();
  expect(type).toBe('RESPONSE');
  return { result: JSON.parse(body.toString()) as unknown, stderr: agent.stderr };
}

/** Ways in which a kept file may not be what it was. */
const DAMAGES: readonly (readonly [string, (bytes: Buffer) => Buffer])[] = [
  ['is empty', () => Buffer.alloc(0)],
  ['is cut off', (bytes) => bytes.subarray(0, bytes.length - 10)],
  ['is cut off in its head', (bytes) => bytes.subarray(0, 10)],
  ['has a flipped bit', (bytes) => Buffer.from(bytes.map((byte, at) => (at === bytes.length - 9 ? byte ^ 1 : byte)))],
  ['is of another version', (bytes) => Buffer.from(bytes.map((byte, at) => (at === 0 ? byte ^ 1 : byte)))],
  ['holds something else', (bytes) => Buffer.alloc(bytes.length, 'x')],
];

function damage(change: (bytes: Buffer) => Buffer): void {
  for (const entry of readdirSync(cache(), { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const file = join(entry.parentPath, entry.name);
    writeFileSync(file, change(readFileSync(file)));
  }
}

describe('Python', () => {
  const CODE: Code = {
    'main.py': [
      'import lib.part, other',
      'def handler(event):',
      '    return [lib.part.name, other.NAME, __spec__.has_location]',
    ],
    'lib/__init__.py': [''],
    'lib/part.py': ["name = 'source'"],
    'other.py': ["NAME = 'other'"],
    'broken.py': ['x = = 1'],
    'ends.py': ['import os', 'os._exit(3)'],
    'notes.txt': ['no code'],
  };

  test(
    'every module that parses is compiled, and none is run',
    async () => {
      const paths = await compile('python', CODE);
      expect(paths.map((path) => path.replace(/^python\/cpython-\d+\//, ''))).toEqual(
        ['ends.pyc', 'lib/__init__.pyc', 'lib/part.pyc', 'main.pyc', 'other.pyc'].sort(),
      );
      expect((await call('python')).result).toEqual(['source', 'other', true]);
    },
    TEST_DEADLINE_MS,
  );

  test(
    'modules are loaded from what was compiled',
    async () => {
      await compile('python', { ...CODE, 'lib/part.py': ["name = 'cached'"] });
      writeFileSync(join(folder, 'task/lib/part.py'), "name = 'source'\n");
      expect((await call('python')).result).toEqual(['cached', 'other', true]);
    },
    TEST_DEADLINE_MS,
  );

  test(
    'what was compiled under another path shows the one it has',
    async () => {
      await compile('python', { 'main.py': ['def handler(event):', '    return handler.__code__.co_filename'] });
      renameSync(join(folder, 'task'), join(folder, 'moved'));
      expect((await call('python', {}, 'moved')).result).toBe(join(folder, 'moved/main.py'));
    },
    TEST_DEADLINE_MS,
  );

  test.each(DAMAGES)(
    'a file that %s is passed over',
    async (_, change) => {
      await compile('python', { ...CODE, 'lib/part.py': ["name = 'cached'"] });
      writeFileSync(join(folder, 'task/lib/part.py'), "name = 'source'\n");
      damage(change);
      expect((await call('python')).result).toEqual(['source', 'other', true]);
    },
    TEST_DEADLINE_MS,
  );
});

const NODE_CODE: Code = {
  'index.mjs': [
    "import { name } from './lib/es.js';",
    "import { createRequire, getCompileCacheDir } from 'node:module';",
    "const common = createRequire(import.meta.url)('./lib/common.cjs');",
    'const lines = () => new Error().stack.split("\\n")[1].match(/index.mjs:(\\d+:\\d+)/)?.[1];',
    'export const handler = () => [name, common.name(), lines(), typeof getCompileCacheDir];',
  ],
  'lib/package.json': ['{"type": "module"}'],
  'lib/es.js': ["export const name = 'es';"],
  'lib/common.cjs': ['#!/usr/bin/env node', "exports.name = () => 'common' + require('dep').name + arguments.length;"],
  'node_modules/dep/index.js': ["exports.name = 'dep';"],
  'node_modules/unused/index.js': ["exports.name = 'unused';"],
  'broken.js': ['x = = 1;'],
  'ends.cjs': ['process.exit(3);'],
  'ends.mjs': ["import fs from 'node:fs';", 'await null;', 'process.exit(3);'],
  'detected.js': ["import fs from 'node:fs';", 'export const x = 1;'],
};
const NODE_RESULT = ['es', 'commondep5', '4:21', 'function'];

describe('Node', () => {
  if (!('flushCompileCache' in Module)) {
    test(
      'without a compile cache of its own makes and needs nothing',
      async () => {
        expect(await compile('nodejs', { 'index.js': ['exports.handler = () => 1;'] })).toEqual([]);
        expect((await call('nodejs')).result).toBe(1);
      },
      TEST_DEADLINE_MS,
    );
    return;
  }

  test(
    'CommonJS and ES modules that can be loaded are compiled, and none is run',
    async () => {
      const paths = await compile('nodejs', NODE_CODE);
      expect(paths.every((path) => /^node\/[0-9a-f]+\/[^/]+\/[0-9a-f]+$/.test(path))).toBe(true);
      const { result, stderr } = await call('nodejs', { NODE_DEBUG_NATIVE: 'COMPILE_CACHE' });
      expect(result).toEqual(NODE_RESULT);
      const accepted = [...stderr.matchAll(/cache for (?:\w+ )?(?:file:\/\/)?(\/\S+) was accepted/g)].map(
        ([, file = '']) => file,
      );
      const loaded = ['index.mjs', 'lib/es.js', 'lib/common.cjs', 'node_modules/dep/index.js'];
      for (const path of loaded) expect(accepted).toContain(join(realpathSync(folder), 'task', path));
    },
    TEST_DEADLINE_MS,
  );

  test(
    'what nothing names of the dependencies is not compiled',
    async () => {
      const paths = await compile('nodejs', NODE_CODE);
      rmSync(join(folder, 'task/node_modules/unused'), { recursive: true });
      expect(await compile('nodejs', {})).toEqual(paths);
    },
    TEST_DEADLINE_MS,
  );

  test.each(DAMAGES)(
    'a file that %s is passed over',
    async (_, change) => {
      await compile('nodejs', NODE_CODE);
      damage(change);
      expect((await call('nodejs')).result).toEqual(NODE_RESULT);
    },
    TEST_DEADLINE_MS,
  );

  test(
    'what was compiled under another path is not looked at',
    async () => {
      await compile('nodejs', NODE_CODE);
      renameSync(join(folder, 'task'), join(folder, 'moved'));
      const { result, stderr } = await call('nodejs', { NODE_DEBUG_NATIVE: 'COMPILE_CACHE' }, 'moved');
      expect([result, stderr]).toEqual([NODE_RESULT, '']);
    },
    TEST_DEADLINE_MS,
  );

  test(
    'code that has changed since is compiled again',
    async () => {
      await compile('nodejs', NODE_CODE);
      writeFileSync(join(folder, 'task/lib/es.js'), "export const name = 'new';\n");
      expect((await call('nodejs')).result).toEqual(['new', ...NODE_RESULT.slice(1)]);
    },
    TEST_DEADLINE_MS,
  );
});
