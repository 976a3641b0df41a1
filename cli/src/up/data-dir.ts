import { access, chmod, constants, mkdir, mkdtemp, readdir, realpath, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { usageError } from '../cli-error.js';

/** The places inside a data directory. All paths are absolute. */
export interface DataDir {
  readonly root: string;
  /** The asked directory could not be used: what is kept here ends with this run. */
  readonly temporary: boolean;
  /** Why not, for the person who asked. */
  readonly problem: string | undefined;
  readonly lock: string;
  readonly apiKey: string;
  readonly context: string;
  readonly pki: string;
  readonly postgres: string;
  readonly logs: string;
  /** Exists when the example has been deployed once: it is never deployed again, even when it was removed. */
  readonly exampleDeployed: string;
  node(id: string): string;
}

/**
 * Only the owner may look inside. Root's directory can be passed through
 * (but not listed), because PostgreSQL refuses to run as root and its own uid
 * has to get to `postgres/`; each secret inside is 0600.
 */
const MODE = process.getuid?.() === 0 ? 0o711 : 0o700;

/** Makes the directory or, when it cannot be used, a temporary one. */
export async function prepareDataDir(asked: string): Promise<DataDir> {
  const wanted = resolve(asked);
  const problem = await makeUsable(wanted);
  if (problem === undefined) return await layout(await realpath(wanted), false, undefined);
  const temporary = await mkdtemp(join(await realpath(tmpdir()), 'lambda-'));
  await chmod(temporary, MODE);
  return await layout(temporary, true, problem);
}

/** Removes a temporary directory; the asked one stays. */
export async function discardTemporary(dataDir: DataDir): Promise<void> {
  if (dataDir.temporary) await rm(dataDir.root, { recursive: true, force: true });
}

/** Undefined when the directory is ours and takes files; otherwise why not. */
async function makeUsable(root: string): Promise<string | undefined> {
  try {
    await makeFolders(root);
    const found = await stat(root);
    const uid = process.getuid?.();
    if (uid !== undefined && uid !== 0 && found.uid !== uid) return 'it belongs to another user';
    await refuseForeign(root);
    await chmod(root, MODE);
    await access(root, constants.R_OK | constants.W_OK | constants.X_OK);
    // A full or failing disk passes `access`; a written file is the proof.
    const probe = join(root, `.probe.${process.pid}`);
    await writeFile(probe, 'writable');
    await rm(probe);
    return undefined;
  } catch (err) {
    const { code } = err as NodeJS.ErrnoException;
    if (code === undefined) throw err;
    return code;
  }
}

/** Level by level, because a recursive mkdir of Node never returns below /proc, where ENOENT means "not allowed". */
async function makeFolders(path: string): Promise<void> {
  try {
    await mkdir(path, { mode: MODE });
  } catch (err) {
    const { code } = err as NodeJS.ErrnoException;
    if (code === 'EEXIST') return;
    const parent = dirname(path);
    const parentIsThere = await access(parent).then(
      () => true,
      () => false,
    );
    if (code !== 'ENOENT' || parentIsThere || parent === path) throw err;
    await makeFolders(parent);
    await mkdir(path, { mode: MODE });
  }
}

/** Changing the mode of somebody's home, or of /tmp, because it was named by mistake would be a disaster. */
async function refuseForeign(root: string): Promise<void> {
  const entries = await readdir(root);
  if (entries.length === 0 || entries.includes('pki')) return;
  throw usageError(
    `${root} holds files and is not a data directory of \`lambda up\`.`,
    'Name an empty or a new folder with --data-dir.',
  );
}

async function layout(root: string, temporary: boolean, problem: string | undefined): Promise<DataDir> {
  const dataDir: DataDir = {
    root,
    temporary,
    problem,
    lock: join(root, 'lock'),
    apiKey: join(root, 'api-key'),
    context: join(root, 'context.json'),
    pki: join(root, 'pki'),
    postgres: join(root, 'postgres'),
    logs: join(root, 'logs'),
    exampleDeployed: join(root, 'example-deployed'),
    node: (id) => join(root, id),
  };
  for (const folder of [dataDir.pki, dataDir.logs]) await mkdir(folder, { recursive: true, mode: 0o700 });
  return dataDir;
}
