import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { run } from '../setup/command.mjs';
import { difference } from '../setup/npm-packages.mjs';
import { isSameProcess, processStart } from '../setup/processes.mjs';
import { differentFiles } from './generated-code.mjs';
import { tallyVitest } from './vitest-results.mjs';

const file = (statuses: string[], more = {}) => ({
  name: '/repo/a.test.ts',
  status: statuses.includes('failed') ? 'failed' : 'passed',
  message: '',
  assertionResults: statuses.map((status, index) => ({
    status,
    title: `test ${index}`,
    ancestorTitles: ['group'],
    failureMessages: status === 'failed' ? ['expected 1 to be 2'] : [],
  })),
  ...more,
});
const tally = (testResults: unknown[] | undefined, more = {}) =>
  tallyVitest({
    report: testResults && { testResults },
    ok: true,
    ended: 'status 0',
    output: 'what vitest printed',
    filtered: false,
    root: '/repo',
    ...more,
  });

describe('the count of a run', () => {
  it('is that of its tests, and names each failure with its message', () => {
    expect(tally([file(['passed', 'failed', 'passed'])], { ok: false })).toEqual({
      passed: 2,
      failures: [{ name: 'a.test.ts > group > test 1', output: 'expected 1 to be 2' }],
    });
  });

  it('has a failure for a file that could not be loaded', () => {
    const { failures } = tally([file([], { status: 'failed', message: 'SyntaxError' })], { ok: false });
    expect(failures).toEqual([{ name: 'a.test.ts', output: 'SyntaxError' }]);
  });

  it('has a failure for an error outside of any test', () => {
    const { failures } = tally([file(['passed'])], { ok: false, ended: 'status 1' });
    expect(failures).toMatchObject([{ output: 'what vitest printed' }]);
  });

  it('has a failure when nothing ran or no report was written', () => {
    expect(tally([]).failures).toHaveLength(1);
    expect(tally(undefined, { ended: 'SIGKILL' }).failures).toMatchObject([
      { name: expect.stringContaining('SIGKILL') },
    ]);
  });

  it('has a failure for a skipped test, unless the caller chose the tests', () => {
    expect(tally([file(['passed', 'skipped', 'todo'])]).failures).toHaveLength(2);
    expect(tally([file(['passed', 'skipped'])], { filtered: true }).failures).toEqual([]);
  });
});

describe('npm ci runs', () => {
  const wanted = {
    '': {},
    'node_modules/a': { version: '1.0.0' },
    'node_modules/b': { version: '1.0.0', optional: true },
  };

  it('when nothing is installed, a package is missing or another version is there', () => {
    expect(difference(wanted, undefined)).toBeDefined();
    expect(difference(wanted, {})).toContain('node_modules/a');
    expect(difference(wanted, { 'node_modules/a': { version: '0.9.0' } })).toContain('0.9.0');
  });

  it('not for the optional package of another platform, nor for a workspace', () => {
    const withLink = { ...wanted, 'node_modules/@x/y': { link: true } };
    expect(difference(withLink, { 'node_modules/a': { version: '1.0.0' } })).toBeUndefined();
  });
});

it('generated code differs when a file is missing, added or changed', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'generated-test-'));
  try {
    for (const side of ['left', 'right']) {
      await mkdir(join(folder, side, 'deep'), { recursive: true });
      await writeFile(join(folder, side, 'deep', 'same.ts'), 'same');
      await writeFile(join(folder, side, 'changed.ts'), side);
      await writeFile(join(folder, side, `only-${side}.ts`), '');
    }
    const different = await differentFiles(join(folder, 'left'), join(folder, 'right'));
    expect(different).toEqual(['changed.ts', 'only-left.ts', 'only-right.ts']);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});

describe('a command', () => {
  it('that fails resolves with its status and what it printed', async () => {
    const result = await run('sh', ['-c', 'echo out; echo err >&2; exit 3'], { deadlineMs: 10_000 });
    expect(result).toMatchObject({
      ok: false,
      ended: 'status 3',
      output: expect.stringMatching(/out[\s\S]*err|err[\s\S]*out/),
    });
  });

  it('that does not exist resolves as failed', async () => {
    expect(await run('no-such-program', [], { deadlineMs: 10_000 })).toMatchObject({ ok: false });
  });

  it('that runs too long is ended', async () => {
    const result = await run('sleep', ['60'], { deadlineMs: 50 });
    expect(result).toMatchObject({ ok: false, ended: expect.stringContaining('took longer') });
  });
});

it('a process is told from a later one with the same pid by its start', () => {
  const start = processStart(process.pid);
  expect(isSameProcess({ pid: process.pid, start })).toBe(true);
  expect(isSameProcess({ pid: process.pid, start: '1' })).toBe(false);
  expect(isSameProcess({ pid: process.pid, start: undefined })).toBe(false);
});
