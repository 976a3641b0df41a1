import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startEmbeddedPostgres } from './start-embedded-postgres.js';

describe('embedded PostgreSQL', () => {
  const log = pino({ level: 'silent' });
  let root = '';
  beforeAll(async () => {
    root = await mkdtemp('/tmp/lf-pg-');
  });
  afterAll(() => rm(root, { recursive: true, force: true }));

  it('keeps its cluster over a stop and survives a killed server', async () => {
    // mkdtemp makes 0700 folders: the cluster of root goes where its uid can reach it.
    const options = { dataDir: join(root, 'data'), socketDir: join('/tmp', `${root.slice(5)}-s`), log };
    const first = await startEmbeddedPostgres(options);
    try {
      const socket = connect(join(options.socketDir, '.s.PGSQL.5432'));
      await once(socket, 'connect');
      socket.destroy();
      process.kill(first.pid, 'SIGKILL');
      expect((await first.exited).signal).toBe('SIGKILL');
      const second = await startEmbeddedPostgres(options);
      expect(second.pid).not.toBe(first.pid);
      // A server that is still running, as a killed parent leaves it, gives way to the next.
      const third = await startEmbeddedPostgres(options);
      await second.exited;
      await third.stop();
      expect((await third.exited).code).toBe(0);
    } finally {
      await first.stop();
      await rm(options.socketDir, { recursive: true, force: true });
      if (!first.dataDir.startsWith(root)) await rm(join(first.dataDir, '..'), { recursive: true, force: true });
    }
  });

  it('never ends a foreign process whose pid stands in a stale lock file', async () => {
    const { stopLeftoverServer } = await import('./leftover-server.js');
    const { writeFile, access } = await import('node:fs/promises');
    const bystander = spawn('sleep', ['30'], { stdio: 'ignore' });
    try {
      await writeFile(join(root, 'postmaster.pid'), `${bystander.pid}\n`);
      await stopLeftoverServer(root, root, log);
      expect(bystander.exitCode).toBeNull();
      await expect(access(join(root, 'postmaster.pid'))).rejects.toThrow();
    } finally {
      bystander.kill('SIGKILL');
    }
  });
});
