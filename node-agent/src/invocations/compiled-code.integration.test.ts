import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { type DriverName, HostUnderTest } from '../../test-support/host-under-test.js';

const ISOLATIONS: readonly (readonly [isolation: string, driver: DriverName])[] = [
  ['runc', 'docker'],
  ['gvisor', 'docker'],
];

/** Loading takes long enough to be worth compiling, whatever the machine. */
const SLOW_NODE = {
  'index.mjs': `
    import { readdirSync, writeFileSync } from 'node:fs';
    import { answer } from './answer.mjs';
    const until = Date.now() + 80;
    while (Date.now() < until);
    export const handler = async () => {
      let written = 'written';
      try { writeFileSync('/var/cache/lambda/planted', 'x'); } catch (err) { written = err.code; }
      return { answer, files: readdirSync('/var/cache/lambda', { recursive: true }).length, written };
    };`,
  'answer.mjs': 'export const answer = 42;',
};
const SLOW_PYTHON = {
  'main.py': `
import os, time
from answer import answer
time.sleep(0.08)
def handler(event):
    try:
        open('/var/cache/lambda/planted', 'w')
        written = 'written'
    except OSError as err:
        written = err.__class__.__name__
    files = sum(len(files) for _, _, files in os.walk('/var/cache/lambda'))
    return {'answer': answer, 'files': files, 'written': written}
`,
  'answer.py': 'answer = 42\n',
};

let node: HostUnderTest;
afterEach(() => node?.close());

const compiled = async () => (await readdir(join(node.dataDir, 'compiled'))).filter((name) => name !== 'incoming');

describe.each(ISOLATIONS)('under %s', (isolation, driver) => {
  test.each([
    ['nodejs22.x', 'index.handler', SLOW_NODE],
    ['python', 'main.handler', SLOW_PYTHON],
  ])(
    'code of %s that loads slowly is compiled once, and later sandboxes get what was compiled',
    async (runtime, handler, files) => {
      node = await HostUnderTest.open(driver);
      const spec = await node.deploy(files, { runtime, handler, memoryMb: 256 });
      const first = JSON.parse((await node.call(spec, { isolation })).text);
      expect(first).toMatchObject({ answer: 42, files: 0 });
      await expect.poll(compiled, { timeout: 20_000 }).toHaveLength(1);
      node.host.runner.forget([spec.versionId]);
      const again = JSON.parse((await node.call({ ...spec, versionId: 'again' }, { isolation })).text);
      expect(again.answer).toBe(42);
      expect(again.files).toBeGreaterThan(0);
      expect(again.written).toMatch(/EROFS|EACCES|OSError|PermissionError/);
      expect(await compiled()).toHaveLength(1);
      // The sandbox in which it was compiled is gone.
      const busy = () => node.host.runner.capacity().versions.reduce((sum, version) => sum + version.busy, 0);
      await expect.poll(busy, { timeout: 10_000 }).toBe(0);
    },
  );
});

test('code that loads quickly, and code that runs once, is not compiled', async () => {
  node = await HostUnderTest.open('docker');
  await node.call(await node.deploy('export const handler = async () => 1;', { runtime: 'nodejs22.x' }));
  await node.call(await node.deploy(SLOW_NODE, { runtime: 'nodejs22.x' }), { singleUse: true });
  const third = await node.deploy({ ...SLOW_NODE, 'other.mjs': '' }, { runtime: 'nodejs22.x', memoryMb: 192 });
  await node.call(third);
  await expect.poll(compiled, { timeout: 20_000 }).toHaveLength(1);
  expect((await compiled())[0]).toContain(third.artifactSha256);
});
