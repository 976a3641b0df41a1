import type { RuntimeName } from '@lambda-fleet/common/runtime-names';
import type { ImageSpec } from '@lambda-fleet/proto';
import type { Isolation, Network } from '../drivers/sandbox-driver.js';

/** What a sandbox is for: one function version under one isolation. */
export interface SandboxShape {
  readonly versionId: string;
  readonly runtime: RuntimeName;
  /** Of the runtime `image`. */
  readonly image?: ImageSpec | undefined;
  readonly isolation: Isolation;
  readonly network: Network;
  /** With `egress`: the only hosts that it reaches; empty is every public address. */
  readonly egressHosts: readonly string[];
  readonly memoryMb: number;
  readonly cpus: number;
  readonly timeoutMs: number;
  readonly initTimeoutMs: number;
  readonly keepAliveMs: number;
  /** Invocations at a time, at least 1. */
  readonly concurrency: number;
  /** It is not frozen while it is idle. */
  readonly keepRunning: boolean;
}

/** Sandboxes with the same key do the same work: any of them may take an invocation of the version. */
export function shapeKey({ versionId, isolation }: Pick<SandboxShape, 'versionId' | 'isolation'>): string {
  return `${versionId}/${isolation}`;
}
