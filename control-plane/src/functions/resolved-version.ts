import type { VersionSpec } from '@lambda-fleet/proto';
import type { ConcurrencyLimits } from '../admission/concurrency-limits.js';

/** What RESOLVE hands to the rest of the invoke path. Immutable, cached per version. */
export interface ResolvedVersion {
  readonly projectId: string;
  readonly functionId: string;
  readonly functionName: string;
  readonly httpAuth: 'key' | 'public';
  /** `auto` is decided at placement, by the operator's policy and by what the nodes have. */
  readonly isolation: 'auto' | 'gvisor' | 'runc';
  readonly provisionedConcurrency: number;
  /** How often it may run at once, and in whose share that counts. */
  readonly limits: ConcurrencyLimits;
  /** Labels that a node must have, `key=value`. */
  readonly labels: readonly string[];
  /** Whether executions keep the event and the result. */
  readonly keepPayloads: boolean;
  /** Milliseconds after which an async invocation that has not been run is given up. */
  readonly asyncMaxAgeMs: number;
  /** What an agent needs to make a sandbox; the same object for the life of the cache entry. */
  readonly spec: VersionSpec;
}
