/**
 * The runtimes a function can name. AWS's identifiers stand for one exact
 * language version; `nodejs` and `python` stand for whatever version a node has
 * as its current one, which is also all that a node without Docker can offer.
 * `provided` runs an executable named `bootstrap` that speaks AWS's Runtime API; `image` is a container image, whose
 * program speaks that API too or serves HTTP.
 */
export const RUNTIME_NAMES = [
  'nodejs',
  'nodejs20.x',
  'nodejs22.x',
  'nodejs24.x',
  'python',
  'python3.11',
  'provided',
  'provided.al2023',
  'image',
] as const;

export type RuntimeName = (typeof RUNTIME_NAMES)[number];

/** Which runtime program serves a runtime name. */
export type RuntimeFamily = 'nodejs' | 'python' | 'provided' | 'image';

export function isRuntimeName(name: string): name is RuntimeName {
  return (RUNTIME_NAMES as readonly string[]).includes(name);
}

export function runtimeFamily(name: RuntimeName): RuntimeFamily {
  if (name === 'image') return 'image';
  if (name.startsWith('provided')) return 'provided';
  return name.startsWith('python') ? 'python' : 'nodejs';
}
