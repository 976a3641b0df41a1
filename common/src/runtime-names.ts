/**
 * The runtimes a function can name. AWS's identifiers stand for one exact
 * language version; `nodejs` and `python` stand for whatever version a node has
 * as its current one, which is also all that a node without Docker can offer.
 */
export const RUNTIME_NAMES = ['nodejs', 'nodejs20.x', 'nodejs22.x', 'nodejs24.x', 'python', 'python3.11'] as const;

export type RuntimeName = (typeof RUNTIME_NAMES)[number];

/** Which runtime program serves a runtime name. */
export type RuntimeFamily = 'nodejs' | 'python';

export function isRuntimeName(name: string): name is RuntimeName {
  return (RUNTIME_NAMES as readonly string[]).includes(name);
}

export function runtimeFamily(name: RuntimeName): RuntimeFamily {
  return name.startsWith('python') ? 'python' : 'nodejs';
}
