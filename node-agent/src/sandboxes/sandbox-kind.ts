import { type RuntimeName, runtimeFamily } from '@lambda-fleet/common/runtime-names';
import type { ImageSpec } from '@lambda-fleet/proto';
import type { Isolation, Network, SandboxLimits, SandboxSpec } from '../drivers/sandbox-driver.js';
import type { SandboxShape } from './sandbox-shape.js';

/** What is fixed when a sandbox boots: a blank serves the functions of its kind and no others. */
export interface SandboxKind {
  readonly runtime: RuntimeName;
  /** Of the runtime `image`, which has no blanks. */
  readonly image?: ImageSpec | undefined;
  readonly isolation: Isolation;
  readonly network: Network;
  /**
   * Memory of the functions it serves, 0 = any. Node fixes its heap limit at boot (setting the flag later has no effect),
   * so its blanks come in memory classes, one for each size that functions really have.
   */
  readonly heapMemoryMb: number;
  /** Limits that cannot change later; undefined where they can. */
  readonly fixedLimits: SandboxLimits | undefined;
}

/** What a blank may use until it has a function: enough to boot a runtime in. */
const BLANK_MEMORY_MB = 128;

/**
 * Processors of a sandbox until its code is loaded. A quota stretches a start by what it takes away, and far more under
 * gVisor, whose own threads share it.
 */
const START_CPUS = 2;

/** `adjustable`: whether the driver can change the limits of a running sandbox. */
export function kindOf(shape: SandboxShape, adjustable: boolean): SandboxKind {
  const { runtime, image, isolation, network, memoryMb, cpus } = shape;
  return {
    runtime,
    ...(image === undefined ? {} : { image }),
    isolation,
    network,
    heapMemoryMb: runtimeFamily(runtime) === 'nodejs' ? memoryMb : 0,
    fixedLimits: adjustable ? undefined : { memoryMb, cpus },
  };
}

export function kindKey({ runtime, isolation, network, heapMemoryMb, fixedLimits }: SandboxKind): string {
  const fixed = fixedLimits === undefined ? '' : ` ${fixedLimits.memoryMb}/${fixedLimits.cpus}`;
  return `${runtime} ${isolation} ${network} ${heapMemoryMb}${fixed}`;
}

/** Limits of a blank. */
export function blankLimits({ heapMemoryMb, fixedLimits }: SandboxKind): SandboxLimits {
  if (fixedLimits !== undefined) return fixedLimits;
  const memoryMb = heapMemoryMb === 0 ? BLANK_MEMORY_MB : Math.min(BLANK_MEMORY_MB, heapMemoryMb);
  return { memoryMb, cpus: START_CPUS };
}

/** Limits of a sandbox that loads its function's code. */
export function startLimits({ memoryMb, cpus }: SandboxShape, { fixedLimits }: SandboxKind): SandboxLimits {
  return fixedLimits ?? { memoryMb, cpus: Math.max(cpus, START_CPUS) };
}

/** What a driver is told to start: a blank, or a sandbox for a function. */
export function bootSpec(
  kind: SandboxKind,
  shape: SandboxShape | undefined,
): Pick<SandboxSpec, 'runtime' | 'image' | 'isolation' | 'network' | 'limits' | 'heapMemoryMb'> {
  const { runtime, image, isolation, network, heapMemoryMb } = kind;
  const limits = shape === undefined ? blankLimits(kind) : startLimits(shape, kind);
  return { runtime, image, isolation, network, limits, heapMemoryMb: heapMemoryMb || limits.memoryMb };
}
