import type { VersionSpec } from '@lambda-fleet/proto';

/** What RESOLVE hands to the rest of the invoke path. Immutable, cached per version. */
export interface ResolvedVersion {
  readonly projectId: string;
  readonly functionId: string;
  readonly functionName: string;
  readonly httpAuth: 'key' | 'public';
  /** What an agent needs to make a sandbox; the same object for the life of the cache entry. */
  readonly spec: VersionSpec;
}
