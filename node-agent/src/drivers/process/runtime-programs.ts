import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { access, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { isRuntimeName, type RuntimeName } from '@lambda-fleet/common/runtime-names';
import { isReachable, reachableCopy } from '../../host/reachable.js';
import { heapLimitMb } from '../heap-limit.js';

const PYTHON_PLACES = ['/usr/bin/python3', '/usr/local/bin/python3'];
const ASK_DEADLINE_MS = 10_000;

export interface RuntimeProgram {
  readonly name: RuntimeName;
  /** The interpreter's version. */
  readonly digest: string;
  command(memoryMb: number): { readonly program: string; readonly args: readonly string[] };
  /** It starts the function's own program, which is what uses memory and processor time. */
  readonly startsProgram: boolean;
}

export interface RuntimeProgramOptions {
  /** The Node runtime's one file. */
  readonly nodeRuntime: string;
  /** The Python runtime's folder; undefined offers no Python. */
  readonly pythonRuntime: string | undefined;
  /** The static init; where it is undefined or not there, `provided` is not offered. */
  readonly providedInit: string | undefined;
  /** Folder for copies of programs that the sandbox's user cannot reach where they are. */
  readonly copiesDir: string;
  /** Whether sandboxes run as another user than this process. */
  readonly otherUser: boolean;
}

/** What the process driver can start: this Node itself, the system's Python, and programs, where there is what starts them. */
export async function findRuntimePrograms(options: RuntimeProgramOptions): Promise<readonly RuntimeProgram[]> {
  const node = await nodePrograms(options);
  return [...node, ...(await pythonPrograms(options)), ...(await providedPrograms(options))];
}

async function nodePrograms(options: RuntimeProgramOptions): Promise<readonly RuntimeProgram[]> {
  const folder = join(options.copiesDir, 'nodejs');
  const program = options.otherUser ? await reachableCopy(process.execPath, folder) : process.execPath;
  const runtime = options.otherUser ? await reachableCopy(options.nodeRuntime, folder) : options.nodeRuntime;
  await access(runtime);
  return named(
    'nodejs',
    `nodejs${process.versions.node.split('.')[0]}.x`,
    `node-${process.versions.node}`,
    (memoryMb) => ({
      program,
      args: [`--max-old-space-size=${heapLimitMb(memoryMb)}`, runtime],
    }),
  );
}

async function pythonPrograms(options: RuntimeProgramOptions): Promise<readonly RuntimeProgram[]> {
  const { pythonRuntime } = options;
  if (pythonRuntime === undefined) return [];
  for (const program of PYTHON_PLACES) {
    // Its libraries stand beside it, so a copy of the program alone would not run.
    if (!(await isReachable(program))) continue;
    const version = await pythonVersion(program);
    const runtime = options.otherUser
      ? await reachableCopy(pythonRuntime, join(options.copiesDir, 'python'))
      : pythonRuntime;
    return named('python', `python${version.split('.').slice(0, 2).join('.')}`, `python-${version}`, () => ({
      program,
      args: ['-I', '-X', 'utf8', runtime],
    }));
  }
  return [];
}

/** Only under the name that stands for whatever a node has: the host is no Amazon Linux. */
async function providedPrograms({
  providedInit,
  copiesDir,
  otherUser,
}: RuntimeProgramOptions): Promise<RuntimeProgram[]> {
  if (providedInit === undefined) return [];
  const contents = await readFile(providedInit).catch((err: NodeJS.ErrnoException) => {
    if (err.code === 'ENOENT') return undefined;
    throw err;
  });
  if (contents === undefined) return [];
  const program = otherUser ? await reachableCopy(providedInit, join(copiesDir, 'provided')) : providedInit;
  const digest = `init-${createHash('sha256').update(contents).digest('hex').slice(0, 12)}`;
  return [{ name: 'provided', digest, command: () => ({ program, args: [] }), startsProgram: true }];
}

function named(
  current: RuntimeName,
  exact: string,
  digest: string,
  command: RuntimeProgram['command'],
): RuntimeProgram[] {
  const names = [current, ...(isRuntimeName(exact) ? [exact] : [])];
  return names.map((name) => ({ name, digest, command, startsProgram: false }));
}

async function pythonVersion(program: string): Promise<string> {
  const ask = ['-I', '-c', 'import platform; print(platform.python_version())'];
  const { stdout } = await promisify(execFile)(program, ask, { timeout: ASK_DEADLINE_MS, env: {} });
  return stdout.trim();
}
