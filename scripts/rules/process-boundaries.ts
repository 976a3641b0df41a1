import { importsOf, importTarget } from './imports.js';
import type { SourceFile } from './source-files.js';

/** Folder of each program → packages of this repository that it may import. */
const ALLOWED: Readonly<Record<string, readonly string[]>> = {
  common: [],
  proto: [],
  'control-plane': ['common', 'proto'],
  // The agent starts the runtime program of its own release; it imports nothing but its path.
  'node-agent': ['common', 'proto', 'runtime-node'],
  'runtimes/node': [],
  'runtimes/images': ['common'],
  cli: ['common', 'runtime-images'],
  // It also measures parts of the control plane by themselves, as they are, and speaks for nodes that it simulates.
  bench: ['common', 'control-plane', 'proto'],
};

/** Imports that reach into another process's code, by package name or by path. */
export function processBoundaryViolations(files: readonly SourceFile[]): string[] {
  return files
    .filter((file) => /\.(ts|mts|js|mjs)$/.test(file.path))
    .flatMap((file) => {
      const program = Object.keys(ALLOWED).find((folder) => file.path.startsWith(`${folder}/`));
      if (program === undefined) return [];
      return importsOf(file)
        .map(({ specifier }) => specifier)
        .filter((specifier) => !isAllowed(file, program, specifier))
        .map((specifier) => `${file.path} imports ${specifier}`);
    });
}

function isAllowed(file: SourceFile, program: string, specifier: string): boolean {
  const target = importTarget(file, specifier);
  if (target !== undefined) return target.startsWith(`${program}/`);
  const [scope, name] = specifier.split('/');
  return scope !== '@lambda-fleet' || (ALLOWED[program] ?? []).includes(name ?? '');
}
