import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import type Docker from 'dockerode';
import { followProgress } from './engine.js';
import type { Architecture } from './image-set.js';
import { ProgramFailed, runProgram } from './run-program.js';
import { TRIM_ROOTFS } from './trim-rootfs.js';

const DEBOOTSTRAP_DEADLINE_MS = 600_000;
const IMPORT_SILENCE_MAX_MS = 120_000;
const DEBIAN_ARCHITECTURE: Readonly<Record<Architecture, string>> = { x64: 'amd64', arm64: 'arm64' };

/** What the engine provides itself, and what debootstrap copied from this machine. */
const EXCLUDED = ['dev/*', 'proc/*', 'sys/*', 'etc/hostname', 'etc/resolv.conf', 'etc/apt/sources.list'];

export interface DebootstrapRequest {
  readonly docker: Docker;
  readonly suite: string;
  readonly packages: readonly string[];
  readonly architecture: Architecture;
  readonly image: { readonly repo: string; readonly tag: string };
  readonly labels: Readonly<Record<string, string>>;
  readonly cacheDir: string;
}

/** Why this machine cannot make a Debian root by itself, in words for a person; undefined when it can. */
export async function debootstrapImpossible(architecture: Architecture): Promise<string | undefined> {
  if (process.platform !== 'linux') return 'debootstrap runs on Linux only';
  if (process.arch !== architecture)
    return `debootstrap needs a machine of the engine's architecture (${architecture})`;
  if (process.getuid?.() !== 0) return 'debootstrap needs root';
  try {
    await runProgram('debootstrap', ['--version'], { deadlineMs: 10_000 });
    return undefined;
  } catch (error) {
    if (error instanceof ProgramFailed) return 'debootstrap is not installed';
    throw error;
  }
}

/** Makes a minimal Debian root on this machine and imports it as an image. */
export async function importDebootstrapped(request: DebootstrapRequest): Promise<void> {
  await mkdir(request.cacheDir, { recursive: true });
  const root = await mkdtemp(join(request.cacheDir, 'debian-root-'));
  try {
    await debootstrap(request, root);
    await runProgram('sh', ['-c', TRIM_ROOTFS, 'trim', root], { deadlineMs: 60_000 });
    await importRoot(request, root);
  } finally {
    await rm(root, { recursive: true, force: true });
  }
}

async function debootstrap(request: DebootstrapRequest, root: string): Promise<void> {
  const mirror = await debianMirror(request.suite);
  // In a mount namespace of its own: whatever debootstrap mounts in there is gone with it, also when it is killed,
  // so that the root can be deleted without reaching the host's /proc through a mount.
  await runProgram(
    'unshare',
    [
      '--mount',
      'debootstrap',
      '--variant=minbase',
      `--arch=${DEBIAN_ARCHITECTURE[request.architecture]}`,
      `--include=${request.packages.join(',')}`,
      request.suite,
      root,
      ...(mirror === undefined ? [] : [mirror]),
    ],
    { deadlineMs: DEBOOTSTRAP_DEADLINE_MS },
  );
}

/** The mirror this machine already uses for the suite; without one debootstrap has its own default. */
async function debianMirror(suite: string): Promise<string | undefined> {
  const format = '$(ORIGIN)|$(CODENAME)|$(COMPONENT)|$(REPO_URI)';
  try {
    const targets = await runProgram('apt-get', ['indextargets', '--format', format, 'Created-By: Packages'], {
      deadlineMs: 30_000,
    });
    const prefix = `Debian|${suite}|main|`;
    return targets
      .split('\n')
      .find((line) => line.startsWith(prefix))
      ?.slice(prefix.length);
  } catch (error) {
    // A distribution without apt-get can still have debootstrap.
    if (error instanceof ProgramFailed) return undefined;
    throw error;
  }
}

async function importRoot(request: DebootstrapRequest, root: string): Promise<void> {
  const tar = spawn('tar', ['--numeric-owner', ...EXCLUDED.map((path) => `--exclude=./${path}`), '-c', '.'], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  try {
    const ended = once(tar, 'close');
    const complaints = text(tar.stderr);
    const progress = await request.docker.importImage(tar.stdout, {
      ...request.image,
      changes: Object.entries(request.labels)
        .map(([name, value]) => `LABEL ${name}=${JSON.stringify(value)}`)
        .join('\n'),
    });
    await followProgress('importing the base image', progress, IMPORT_SILENCE_MAX_MS);
    const [code] = await ended;
    if (code !== 0)
      throw new Error(`tar ended with status ${code} while the base image was imported: ${await complaints}`);
  } finally {
    tar.kill('SIGKILL');
  }
}
