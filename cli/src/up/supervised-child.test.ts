import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { LogFile } from './log-file.js';
import { nodeProgram } from './node-child.js';
import { processStart } from './process-identity.js';
import { RestartPolicy } from './restart-policy.js';
import { type ChildProgram, type Exit, SupervisedChild } from './supervised-child.js';

const DEADLINE_MS = 20_000;
const program = (name: string) => fileURLToPath(new URL(`../../test-programs/${name}.mjs`, import.meta.url));

let folder: string;
let log: LogFile;
let children: SupervisedChild[];
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lambda-child-'));
  log = new LogFile(join(folder, 'child.log'));
  children = [];
});
afterEach(async () => {
  await Promise.all(children.map((child) => child.stop(2_000)));
  log.close();
  await rm(folder, { recursive: true, force: true });
});

interface Told {
  readonly deaths: string[];
  readonly recovered: Promise<void>;
  readonly failed: Promise<Exit>;
}

function supervise(programToRun: ChildProgram): { child: SupervisedChild; told: Told } {
  const deaths: string[] = [];
  let recover: () => void = () => {};
  let fail: (exit: Exit) => void = () => {};
  const told: Told = {
    deaths,
    recovered: new Promise((settle) => {
      recover = settle;
    }),
    failed: new Promise((settle) => {
      fail = settle;
    }),
  };
  const events = {
    died: (_name: string, exit: Exit) => deaths.push(exit.how),
    recovered: () => recover(),
    failed: (_name: string, exit: Exit) => fail(exit),
  };
  const child = new SupervisedChild(programToRun, events, new RestartPolicy());
  children.push(child);
  return { child, told };
}

const node = (script: string): ChildProgram =>
  nodeProgram({ name: script, script: program(script), log, environment: { PATH: process.env.PATH ?? '' } });

describe('a supervised child', () => {
  it('is started again when it is killed', async () => {
    const { child, told } = supervise(node('agent'));
    await child.start(DEADLINE_MS);
    const first = child.pid ?? 0;
    process.kill(first, 'SIGKILL');
    await told.recovered;
    expect(told.deaths).toEqual(['was killed by SIGKILL']);
    expect(child.state).toBe('ready');
    expect(child.pid).not.toBe(first);
  });

  it('that cannot live is given up after five deaths, with its last words', async () => {
    const { child, told } = supervise(node('crashing'));
    await expect(child.start(DEADLINE_MS)).rejects.toThrow('ended with status 3, again and again');
    expect(told.deaths).toHaveLength(4);
    expect((await told.failed).lastLines).toEqual(['the last words of a crashing child']);
    expect(child.state).toBe('failed');
  });

  it('that cannot even be made is given up with the reason', async () => {
    const { child, told } = supervise({ name: 'ghost', start: () => Promise.reject(new Error('no such cluster')) });
    await expect(child.start(DEADLINE_MS)).rejects.toThrow('no such cluster');
    expect((await told.failed).how).toBe('could not be started: no such cluster');
  });

  it('ends when asked, and its death is then no accident', async () => {
    const { child, told } = supervise(node('agent'));
    await child.start(DEADLINE_MS);
    const pid = child.pid ?? 0;
    await child.stop(DEADLINE_MS);
    expect(child.state).toBe('stopped');
    expect(processStart(pid)).toBeUndefined();
    expect(told.deaths).toEqual([]);
  });

  it('that ignores the request is killed at the deadline', async () => {
    const { child } = supervise(node('stubborn'));
    await child.start(DEADLINE_MS);
    const pid = child.pid ?? 0;
    await child.stop(100);
    expect(child.state).toBe('stopped');
    expect(processStart(pid)).toBeUndefined();
  });

  it('is not started again when it is stopped between death and restart', async () => {
    let starts = 0;
    const { child } = supervise({
      name: 'mayfly',
      start: () => {
        starts += 1;
        return Promise.reject(new Error('dead'));
      },
    });
    const started = child.start(DEADLINE_MS);
    // The first restart is immediate, the second waits: it is stopped in between.
    while (starts < 2) await new Promise((turn) => setImmediate(turn));
    await child.stop(DEADLINE_MS);
    await expect(started).rejects.toThrow('was stopped');
    expect(starts).toBe(2);
  });

  it('stopped while it is being made does not survive', async () => {
    let made: (value: undefined) => void = () => {};
    const gate = new Promise((settle) => {
      made = settle;
    });
    const real = node('agent');
    const { child } = supervise({ name: 'slow', start: () => gate.then(() => real.start()) });
    const started = child.start(DEADLINE_MS);
    const stopped = child.stop(DEADLINE_MS);
    made(undefined);
    await expect(started).rejects.toThrow('was stopped');
    await stopped;
    expect(child.pid).toBeUndefined();
  });
});
