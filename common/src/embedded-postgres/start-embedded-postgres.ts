import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { access, chmod, chown, mkdir, readFile, rename, rm } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { FleetError } from '../errors.js';
import type { Logger } from '../logger.js';
import { findPostgresBinaries, type PostgresBinaries } from './binaries.js';
import { canReach, type Identity, postgresIdentity, reachableDataDir } from './identity.js';
import { stopLeftoverServer } from './leftover-server.js';

const run = promisify(execFile);

export interface EmbeddedPostgresOptions {
  /** The cluster's folder; made at the first start. See {@link EmbeddedPostgres.dataDir}. */
  readonly dataDir: string;
  /** Folder of the unix socket, used for nothing else. Its path must stay below 90 bytes. */
  readonly socketDir: string;
  readonly log: Logger;
  /** Receives every line that the server writes. */
  readonly onOutput?: (line: string) => void;
  /** Further `name=value` settings of the server, for tests and tuning. */
  readonly settings?: readonly string[];
}

export interface EmbeddedPostgresExit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  /** The last lines that the server wrote, for the report. */
  readonly lastLines: readonly string[];
}

export interface EmbeddedPostgres {
  /** What a PostgreSQL client connects with. Only the owner of the socket's folder (and root) can. */
  readonly connection: { readonly host: string; readonly port: 5432; readonly user: string; readonly database: string };
  /** The same as one URL, for `DATABASE_URL`. */
  readonly url: string;
  readonly pid: number;
  /** Where the cluster really is: elsewhere than asked when the server's uid cannot enter the asked folder. */
  readonly dataDir: string;
  /** Settles when the server has ended, for whatever reason. Never rejects. */
  readonly exited: Promise<EmbeddedPostgresExit>;
  /** Fast shutdown; immediate shutdown after `deadlineMs` (default 5 s), SIGKILL 2 s later. */
  stop(deadlineMs?: number): Promise<void>;
}

const READY_DEADLINE_MS = 30_000;
/** A killed predecessor that is still a zombie can hold the lock for about a second. */
const LOCK_RETRY_MS = 6_000;
const INITDB_DEADLINE_MS = 60_000;
const SUPERUSER = 'postgres';
/** The kernel's limit is 108 with the terminator; `/.s.PGSQL.5432` takes 14. */
const SOCKET_DIR_BYTES_MAX = 90;
/** The programs need nothing of the parent's environment, and this file must not read it. */
const ENVIRONMENT = { PATH: '/usr/local/bin:/usr/bin:/bin', LC_ALL: 'C', TZ: 'UTC' };

/**
 * Runs a real PostgreSQL, from the npm package, as a child process that listens
 * on a unix socket only. Started by root, the server runs as `nobody`.
 *
 * A server left over from a killed parent is stopped first. Where `setpriv`
 * knows `--pdeathsig`, the server goes down with this process.
 */
export async function startEmbeddedPostgres(options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  const { log } = options;
  const socketDir = resolve(options.socketDir);
  if (Buffer.byteLength(socketDir) > SOCKET_DIR_BYTES_MAX) {
    throw new FleetError(
      'invalid_request',
      `The path ${socketDir} is too long for a unix socket (at most ${SOCKET_DIR_BYTES_MAX} bytes). Use a shorter folder.`,
    );
  }
  const identity = postgresIdentity();
  const binaries = await findPostgresBinaries(identity);
  const dataDir = await reachableDataDir(identity, options.dataDir);
  await makePrivateDir(socketDir, identity);
  if (identity !== undefined && !(await canReach(identity, socketDir))) {
    throw new FleetError(
      'unavailable',
      `PostgreSQL runs as uid ${identity.uid} and cannot enter a folder above ${socketDir}. Use a socket folder under /run.`,
    );
  }
  await stopLeftoverServer(dataDir, socketDir, log);
  await initialiseCluster(binaries, dataDir, identity, log);

  const command = [
    ...(await deathSignalPrefix()),
    binaries.postgres,
    '-D',
    dataDir,
    '-k',
    socketDir,
    ...['listen_addresses=', 'unix_socket_permissions=0700', ...(options.settings ?? [])].flatMap((s) => ['-c', s]),
  ];
  const giveUpAt = performance.now() + LOCK_RETRY_MS;
  for (;;) {
    const server = new ServerProcess(command, identity, options.onOutput);
    const startedAt = performance.now();
    const ready = await server.waitUntilReady(dataDir);
    if (ready) {
      log.info({ pid: server.pid, dataDir, ms: Math.round(performance.now() - startedAt) }, 'postgres_ready');
      return {
        connection: { host: socketDir, port: 5432, user: SUPERUSER, database: 'postgres' },
        url: `postgres://${SUPERUSER}@localhost:5432/postgres?host=${encodeURIComponent(socketDir)}`,
        pid: server.pid,
        dataDir,
        exited: server.exited,
        stop: (deadlineMs = 5_000) => server.stop(deadlineMs),
      };
    }
    await server.stop(2_000);
    const { lastLines } = await server.exited;
    const locked = lastLines.some((line) => line.includes('lock file') || line.includes('shared memory block'));
    if (!locked || performance.now() > giveUpAt) {
      throw new FleetError(
        'unavailable',
        `PostgreSQL did not start on ${dataDir}. Its last words: ${lastLines.slice(-3).join(' | ') || 'none'}`,
      );
    }
    await delay(300);
    await stopLeftoverServer(dataDir, socketDir, log);
  }
}

async function makePrivateDir(path: string, identity: Identity | undefined): Promise<void> {
  // Folders above are made passable: the server's uid must get through them.
  await mkdir(dirname(path), { recursive: true, mode: 0o755 });
  await mkdir(path, { recursive: true, mode: 0o700 });
  if (identity !== undefined) await chown(path, identity.uid, identity.gid);
  await chmod(path, 0o700);
}

/** Makes the cluster beside its place and renames it in, so that a half-made one is never taken for a whole one. */
async function initialiseCluster(
  binaries: PostgresBinaries,
  dataDir: string,
  identity: Identity | undefined,
  log: Logger,
): Promise<void> {
  const exists = await access(join(dataDir, 'PG_VERSION')).then(
    () => true,
    () => false,
  );
  if (exists) return;
  const startedAt = performance.now();
  const unfinished = `${dataDir}.unfinished`;
  await rm(unfinished, { recursive: true, force: true });
  await makePrivateDir(unfinished, identity);
  const args = [
    '-D',
    unfinished,
    '-U',
    SUPERUSER,
    '--auth=trust',
    '--encoding=UTF8',
    '--locale=C',
    '--no-instructions',
  ];
  try {
    await run(binaries.initdb, args, { ...identity, cwd: '/', env: ENVIRONMENT, timeout: INITDB_DEADLINE_MS });
  } catch (err) {
    throw new FleetError(
      'unavailable',
      `A new PostgreSQL cluster could not be made in ${dataDir}: ${String((err as { stderr?: unknown }).stderr ?? err).trim()}`,
      undefined,
      { cause: err },
    );
  }
  // An empty folder that the caller made is replaced; anything else in the way is an error of rename.
  await rename(unfinished, dataDir);
  log.info({ dataDir, ms: Math.round(performance.now() - startedAt) }, 'postgres_initialised');
}

/** `setpriv --pdeathsig INT` where it works: busybox has a setpriv without it, macOS has none. */
async function deathSignalPrefix(): Promise<readonly string[]> {
  const prefix = ['setpriv', '--pdeathsig', 'INT'];
  try {
    await run('setpriv', ['--pdeathsig', 'INT', 'true'], { env: ENVIRONMENT, timeout: 5_000 });
    return prefix;
  } catch {
    // Without it the next start stops the server that was left over.
    return [];
  }
}

class ServerProcess {
  readonly exited: Promise<EmbeddedPostgresExit>;
  readonly #child: ChildProcess;
  readonly #lastLines: string[] = [];
  #ended = false;

  constructor(command: readonly string[], identity: Identity | undefined, onOutput?: (line: string) => void) {
    const [program = '', ...args] = command;
    // A process group of its own: Ctrl-C in a terminal must reach PostgreSQL last, from its owner.
    this.#child = spawn(program, args, {
      ...identity,
      cwd: '/',
      env: ENVIRONMENT,
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    });
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      if (stream === null) continue;
      createInterface({ input: stream }).on('line', (line) => {
        this.#lastLines.push(line);
        if (this.#lastLines.length > 20) this.#lastLines.shift();
        onOutput?.(line);
      });
    }
    this.exited = new Promise((settle) => {
      const end = (code: number | null, signal: NodeJS.Signals | null) => {
        this.#ended = true;
        settle({ code, signal, lastLines: this.#lastLines });
      };
      this.#child.once('close', end);
      this.#child.once('error', (err) => {
        this.#lastLines.push(err.message);
        end(null, null);
      });
    });
  }

  get pid(): number {
    return this.#child.pid ?? -1;
  }

  /**
   * Ready means: the lock file names *this* process and says `ready`. Asking the
   * socket instead could reach an older server on the same path.
   */
  async waitUntilReady(dataDir: string): Promise<boolean> {
    const until = performance.now() + READY_DEADLINE_MS;
    while (!this.#ended && performance.now() < until) {
      const lines = (await readFile(join(dataDir, 'postmaster.pid'), 'utf8').catch(() => '')).split('\n');
      if (lines[0] === String(this.pid) && lines[7]?.trim() === 'ready') return true;
      await delay(20);
    }
    return false;
  }

  async stop(deadlineMs: number): Promise<void> {
    for (const [signal, waitMs] of [
      ['SIGINT', deadlineMs],
      ['SIGQUIT', 2_000],
      ['SIGKILL', 2_000],
    ] as const) {
      if (this.#ended) return;
      this.#child.kill(signal);
      await Promise.race([this.exited, delay(waitMs, undefined, { ref: false })]);
    }
  }
}
