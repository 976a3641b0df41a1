import type { ContainerCreateOptions, HostConfig } from 'dockerode';
import type { Ground } from './ground.js';

export const ISOLATIONS = ['runc', 'gvisor'] as const;
export type ProbeIsolation = (typeof ISOLATIONS)[number];

export const AREAS = ['files', 'kernel', 'network', 'resources', 'sharing', 'protocol', 'realm'] as const;

/** One attempt to break out, or to harm what does not belong to the sandbox. */
export interface Probe {
  /** A guarantee; the test's name. */
  readonly name: string;
  readonly area: (typeof AREAS)[number];
  /** What the function does. */
  readonly attempt: string;
  /** What is looked at to judge it: never what the function says of its success. */
  readonly judge: string;
  /** Resolves with what was harmed; empty when all is well. */
  run(ground: Ground): Promise<readonly string[]>;
  /** It takes seconds and has sandboxes of its own, so that others may run meanwhile. */
  readonly slow?: boolean;
  /** How the defence is taken away, to see that the probe finds harm then. */
  readonly withoutDefence?: WithoutDefence;
}

export interface WithoutDefence {
  /** What is taken away. */
  readonly removed: string;
  /** Where that makes a difference: gVisor's own kernel stands behind many a defence of the container's. */
  readonly isolations: readonly ProbeIsolation[];
  readonly alter?: (spec: ContainerCreateOptions, ground: Ground) => ContainerCreateOptions;
  /** Replaces a piece of the agent. Returns how to put it back. */
  readonly replace?: () => () => void | Promise<void>;
}

type Changes = HostConfig & { readonly CgroupnsMode?: string };

/** Alters the engine's part of a specification. */
export function withHostConfig(spec: ContainerCreateOptions, changes: Changes): ContainerCreateOptions {
  return { ...spec, HostConfig: { ...spec.HostConfig, ...changes } };
}

/** Makes the function run as a user for whom owners and modes of files mean nothing. */
export function asRoot(spec: ContainerCreateOptions, changes: Changes = {}): ContainerCreateOptions {
  const CapAdd = [...(changes.CapAdd ?? []), 'DAC_OVERRIDE'];
  return { ...withHostConfig(spec, { ...changes, CapAdd }), User: '0:0' };
}

/** A harm for each thing that is in `after` and was not in `before`. */
export function appeared(what: string, before: Iterable<string>, after: Iterable<string>): string[] {
  const known = new Set(before);
  return [...new Set(after)].filter((one) => !known.has(one)).map((one) => `${what}: ${one}`);
}

/** Puts another implementation in a method's place. */
export function replaceMethod<T extends object, K extends keyof T>(of: T, name: K, replacement: T[K]): () => void {
  const original = of[name];
  of[name] = replacement;
  return () => {
    of[name] = original;
  };
}
