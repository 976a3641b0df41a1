import type { BuildError } from '../db/schema.js';

export type BuildState = 'queued' | 'building' | 'checking' | 'succeeded' | 'failed' | 'cancelled';

/** A build as the API shows it. */
export interface BuildRecord {
  readonly id: string;
  readonly functionName: string;
  readonly state: BuildState;
  readonly contextSha256: string;
  readonly contextBytes: number;
  readonly nodeId: string | null;
  /** The version that came of it. */
  readonly version: number | null;
  readonly error: BuildError | null;
  readonly warnings: readonly string[];
  readonly createdAt: Date;
  readonly finishedAt: Date | null;
}

export interface StoredBuildLine {
  /** Rises by one per line of a build, from 1. */
  readonly sequence: number;
  readonly at: Date;
  readonly stream: 'stdout' | 'stderr' | 'platform';
  readonly text: string;
}

export function isFinished({ finishedAt }: BuildRecord): boolean {
  return finishedAt !== null;
}
