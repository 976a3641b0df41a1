import { concurrencyLimits } from '../admission/concurrency-limits.js';
import type { ContainerImage } from '../db/schema.js';
import { handlerOfImage, imageSpecOf } from './container-image.js';
import type { FunctionConfig } from './definition.js';
import type { ResolvedVersion } from './resolved-version.js';

/** A function with its newest version: one row of the two tables joined. */
export interface FunctionRecord extends FunctionConfig {
  readonly id: string;
  readonly projectId: string;
  readonly versionId: string;
  readonly version: number;
  readonly artifactSha256: string;
  readonly artifactBytes: number;
  /** Null unless the runtime is `image`. */
  readonly image: ContainerImage | null;
  /** Of its async invocations; set apart from the versions. */
  readonly asyncMaxAgeMs: number;
  /** Invocations at once: what is kept for it and what it cannot exceed; set apart from the versions. Null is none. */
  readonly reservedConcurrency: number | null;
  readonly maximumConcurrency: number | null;
  readonly createdAt: Date;
  readonly updatedAt: Date;
}

/** Region and account are those that every AWS client accepts. */
export function functionArn(name: string): string {
  return `arn:aws:lambda:local:000000000000:function:${name}`;
}

type Limited = Pick<FunctionRecord, 'reservedConcurrency' | 'maximumConcurrency'>;

/** What the invoke path and the agents need of a function. What is not deployed has no limits of its own. */
export function resolvedVersionOf(
  record: Omit<FunctionRecord, 'createdAt' | 'updatedAt' | keyof Limited> & Partial<Limited>,
): ResolvedVersion {
  const { reservedConcurrency = null, maximumConcurrency = null } = record;
  const image = record.image === null ? undefined : imageSpecOf(record.image, record.imageSettings);
  return {
    projectId: record.projectId,
    functionId: record.id,
    functionName: record.name,
    httpAuth: record.httpAuth,
    isolation: record.isolation,
    provisionedConcurrency: record.provisionedConcurrency,
    limits: concurrencyLimits(record.id, record.projectId, reservedConcurrency, maximumConcurrency),
    labels: Object.entries(record.labels).map(([key, value]) => `${key}=${value}`),
    keepPayloads: record.keepPayloads,
    asyncMaxAgeMs: record.asyncMaxAgeMs,
    spec: {
      versionId: record.versionId,
      projectId: record.projectId,
      functionId: record.id,
      functionName: record.name,
      versionNumber: record.version,
      runtime: record.runtime,
      handler: record.handler === '' && image !== undefined ? handlerOfImage(image) : record.handler,
      memoryMb: record.memoryMb,
      cpus: record.cpus,
      timeoutMs: record.timeoutMs,
      initTimeoutMs: record.initTimeoutMs,
      keepAliveMs: record.keepAliveMs,
      environment: { ...record.environment },
      artifactSha256: record.artifactSha256,
      artifactBytes: record.artifactBytes,
      arn: functionArn(record.name),
      network: record.network,
      egressHosts: [...record.egressHosts],
      concurrency: record.concurrency,
      keepRunning: record.keepRunning,
      realm: '',
      image,
    },
  };
}
