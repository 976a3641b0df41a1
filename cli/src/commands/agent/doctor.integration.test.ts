import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

const LAMBDA = fileURLToPath(new URL('../../../bin/lambda.mjs', import.meta.url));

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cli-doctor-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

function doctor(args: readonly string[], env: NodeJS.ProcessEnv = {}) {
  return new Promise<{ status: number; stdout: string; stderr: string }>((settle) => {
    const options = { cwd: folder, env: { ...process.env, ...env } };
    execFile(process.execPath, [LAMBDA, 'agent', 'doctor', ...args], options, (err, stdout, stderr) => {
      settle({ status: typeof err?.code === 'number' ? err.code : 0, stdout, stderr });
    });
  });
}

describe('lambda agent doctor', () => {
  it('prints a line for each check and ends with 0 where nothing failed', async () => {
    const { status, stdout, stderr } = await doctor([]);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    const checks = stdout.split('\n').filter((line) => /^(ok|warning) /.test(line));
    expect(checks.map((line) => line.slice(9, 24).trim())).toEqual(
      expect.arrayContaining(['node', 'disk', 'engine', 'runsc', 'egress', 'runc sandbox', 'gvisor sandbox']),
    );
    expect(stdout).not.toMatch(/^failed/m);
  });

  it('ends with 1 when something failed, and says what to do', async () => {
    const { status, stdout } = await doctor([], { DOCKER_HOST: 'unix:///nowhere/docker.sock' });
    expect(status).toBe(1);
    expect(stdout).toMatch(/^failed {3}engine .*\/nowhere\/docker\.sock.*\n {9}→ start Docker/m);
  });

  it('prints an array with -o json, and looks at the directory it is given', async () => {
    const env = { DOCKER_HOST: 'unix:///nowhere/docker.sock' };
    const { status, stdout } = await doctor(['-o', 'json', '--data-dir', join(folder, 'chosen')], env);
    expect(status).toBe(1);
    expect(JSON.parse(stdout)).toEqual(
      expect.arrayContaining([
        { name: 'data directory', status: 'ok', detail: expect.stringContaining('chosen'), advice: '' },
        expect.objectContaining({ name: 'engine', status: 'failed' }),
      ]),
    );
  });
});
