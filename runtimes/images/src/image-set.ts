import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { RuntimeName } from '@lambda-fleet/common/runtime-names';

/** An exact Node release, as published on npm in one package per platform. */
export interface NodeRelease {
  readonly version: string;
  /** The sha512 that npm publishes for the package of each architecture; what was downloaded must match. */
  readonly integrity: Readonly<Record<Architecture, string>>;
}

/** An architecture as npm's Node packages name it. */
export type Architecture = 'x64' | 'arm64';

export interface RuntimeImage {
  readonly runtime: RuntimeName;
  /** Names that stand for this runtime as well. */
  readonly aliases: readonly RuntimeName[];
  /** Node release to put into the image; Python comes with the base. */
  readonly node: NodeRelease | undefined;
  /** The runtime program on this machine: one file, or a folder. `{architecture}` stands for the engine's. */
  readonly program: string;
  /** Where the program stands in the image. */
  readonly programInside: string;
  /** Command that root runs once in the image while it is built. */
  readonly prepare: readonly string[] | undefined;
  /** What a sandbox starts. `{heapMb}` stands for the heap limit that fits the sandbox's memory. */
  readonly entry: readonly string[];
}

const ARCHITECTURE = '{architecture}';
const NODE_INSIDE = '/var/runtime/bin/node';
const PYTHON = '/usr/bin/python3';
const PYTHON_PROGRAM_INSIDE = '/var/runtime/lambda_runtime';

function nodeImage(
  runtime: RuntimeName,
  version: string,
  integrity: Readonly<Record<Architecture, string>>,
  aliases: readonly RuntimeName[] = [],
): RuntimeImage {
  return {
    runtime,
    aliases,
    node: { version, integrity },
    program: fileURLToPath(new URL('../../node/dist/runtime.cjs', import.meta.url)),
    programInside: '/var/runtime/runtime.cjs',
    prepare: undefined,
    entry: [NODE_INSIDE, '--max-old-space-size={heapMb}', '/var/runtime/runtime.cjs'],
  };
}

/** Every runtime image, in the order in which they are built: the current ones first, and last what needs a compiler. */
export const RUNTIME_IMAGES: readonly RuntimeImage[] = [
  nodeImage(
    'nodejs22.x',
    '22.23.3',
    {
      x64: 'sha512-qHnz5tFsHoj/WM+uRENVjWONi5hVvmwrgq8A4V76KpuVNAc4+jwK8x4gwbobE9BtHNg/AKR2583eYorLF/c7ng==',
      arm64: 'sha512-l3DAHZreylo+p9QXDtsOrjG2JXJqVzYXnAGmIQNOUNARcMppTO2cmewVQP+36tjJnSE+dzpMNtgW+c3oiDvXtA==',
    },
    ['nodejs'],
  ),
  {
    runtime: 'python3.11',
    aliases: ['python'],
    node: undefined,
    program: fileURLToPath(new URL('../../python/lambda_runtime', import.meta.url)),
    programInside: PYTHON_PROGRAM_INSIDE,
    // A sandbox cannot keep what Python compiles, because its root is read-only: without this every start compiles
    // the runtime again, about 10 ms of 40. The files never change, so nothing need be compared with the source.
    prepare: [PYTHON, '-I', '-m', 'compileall', '-q', '--invalidation-mode', 'unchecked-hash', PYTHON_PROGRAM_INSIDE],
    // -I: the user's directory, PYTHON* variables and site-packages of the user stay out of the runtime's own imports.
    entry: [PYTHON, '-I', '-X', 'utf8', PYTHON_PROGRAM_INSIDE],
  },
  nodeImage('nodejs20.x', '20.20.2', {
    x64: 'sha512-PeHQM8wAdmHtZA1mBocygZxs5LiUWtsJezQTkBd0iY987KpGrD1O2tVEydvMZiuXceRanxt7rjTnDEBwOPujoQ==',
    arm64: 'sha512-LCXJnNTFiyGuYBw2gZSI5OBFMbkjAPt8sqD/NKrWoE2QmDgSubTqFng6GaNJ9EJ8HpxBMGcWWpbbcs4Vo+CnGg==',
  }),
  nodeImage('nodejs24.x', '24.21.0', {
    x64: 'sha512-3nULszZ5X0fciYpG0t6TrdApJzAn8+FlINP6OiMX7V8HrvpATPN936U1LlReOJriLRa4e8yEqQBYCnLyPNAs7Q==',
    arm64: 'sha512-FpJRPEz2OvvTLfjIOlNGFY9JLPMKgl5m+d4oGYBLg24kJ1mmvN1Zl/HPJgF4HDaJ51ISev1l1cRZ/DM+keXW5g==',
  }),
  {
    runtime: 'provided.al2023',
    aliases: ['provided'],
    node: undefined,
    program: join(fileURLToPath(new URL('../../provided/dist', import.meta.url)), `init-${ARCHITECTURE}`),
    programInside: '/var/runtime/init',
    prepare: undefined,
    entry: ['/var/runtime/init'],
  },
];

/** Where the program for an engine of this architecture stands on this machine. */
export function programPath(image: RuntimeImage, architecture: Architecture): string {
  return image.program.replace(ARCHITECTURE, architecture);
}

/** Whether the program is compiled for each architecture, instead of being the same for all. */
export function isCompiled(image: RuntimeImage): boolean {
  return image.program.includes(ARCHITECTURE);
}

export function imageName(runtime: RuntimeName): { readonly repo: string; readonly tag: string } {
  return { repo: `lambda-fleet/runtime-${runtime}`, tag: 'current' };
}
