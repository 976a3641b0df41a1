import { createHash, randomBytes } from 'node:crypto';
import { access, mkdir, mkdtemp, readdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { extract } from 'tar';
import type { Architecture, NodeRelease } from './image-set.js';
import { runProgram } from './run-program.js';

const DOWNLOAD_DEADLINE_MS = 300_000;

/**
 * Path of the Node program of `release`, from the cache or downloaded with npm, which brings the user's own
 * registry settings. It is no dependency of this repository: four releases for two architectures are 800 MB.
 */
export async function nodeBinary(
  release: NodeRelease,
  architecture: Architecture,
  cacheDir: string,
  onProgress: (line: string) => void,
): Promise<string> {
  const binary = join(cacheDir, 'node', `${release.version}-${architecture}`);
  if (await exists(binary)) return binary;

  onProgress(`downloading Node ${release.version} (${architecture})`);
  await mkdir(join(cacheDir, 'node'), { recursive: true });
  const staging = await mkdtemp(join(cacheDir, 'node', `.download-${randomBytes(4).toString('hex')}-`));
  try {
    const archive = await download(`node-linux-${architecture}@${release.version}`, staging);
    verifyIntegrity(await readFile(archive), release.integrity[architecture], archive);
    await extract({ file: archive, cwd: staging, strip: 2 }, ['package/bin/node']);
    // A rename, so that a build in another process finds either no file or a whole one.
    await rename(join(staging, 'node'), binary);
    return binary;
  } finally {
    await rm(staging, { recursive: true, force: true });
  }
}

/** Throws unless the sha512 of `bytes` is the one of `integrity` (`sha512-<base64>`, as in a lock file). */
export function verifyIntegrity(bytes: Buffer, integrity: string, what: string): void {
  const found = `sha512-${createHash('sha512').update(bytes).digest('base64')}`;
  if (found !== integrity) throw new Error(`${what} is not what was published: its hash is ${found}, not ${integrity}`);
}

async function download(spec: string, into: string): Promise<string> {
  await runProgram('npm', ['pack', spec, '--loglevel=error', '--pack-destination', into], {
    cwd: into,
    deadlineMs: DOWNLOAD_DEADLINE_MS,
  });
  const archive = (await readdir(into)).find((name) => name.endsWith('.tgz'));
  if (archive === undefined) throw new Error(`npm pack ${spec} wrote no archive`);
  return join(into, archive);
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
