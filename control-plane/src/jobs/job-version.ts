import { type RuntimeName, runtimeFamily } from '@lambda-fleet/common/runtime-names';
import { v5 as uuidv5 } from 'uuid';
import type { Artifact } from '../artifacts/postgres-artifact-store.js';
import { configOf } from '../functions/definition.js';
import { resolvedVersionOf } from '../functions/function-record.js';
import type { ResolvedVersion } from '../functions/resolved-version.js';
import type { JobCode } from './job.js';

/** What executions and metrics call every job's function. */
export const JOB_FUNCTION_NAME = 'job';

/** Name space of the ids below. Arbitrary, and never to change: executions and log lines hold these ids. */
const FUNCTION_IDS = 'b6c1d3f0-5d8b-4f57-9a59-0b4f6f2b7a31';

/**
 * The id of the function that jobs of a project belong to, without there being one. Jobs that ask different things of
 * a node have different ones: they wait in lanes by it, and a job that fits nowhere must only hold up its like.
 */
export function jobFunctionId(projectId: string, { runtime, memoryMb }: Demand): string {
  return uuidv5(`${projectId}/${runtime}/${memoryMb}`, FUNCTION_IDS);
}

interface Demand {
  readonly runtime: RuntimeName;
  readonly memoryMb: number;
}

/** The file in a job's archive. */
export function jobFile(runtime: RuntimeName): string {
  return runtimeFamily(runtime) === 'python' ? 'job.py' : 'job.js';
}

/** A job as agents take it: a version of its own, which its attempts share. */
export function jobVersion(job: JobCode, artifact: Artifact): ResolvedVersion {
  const { id, projectId, runtime, memoryMb, timeoutMs } = job;
  const version = resolvedVersionOf({
    ...configOf(JOB_FUNCTION_NAME, { runtime, memoryMb, timeoutMs, handler: 'job', keepAliveMs: 0 }),
    id: jobFunctionId(projectId, job),
    projectId,
    versionId: id,
    version: 1,
    artifactSha256: artifact.sha256,
    artifactBytes: artifact.bytes,
    image: null,
    asyncMaxAgeMs: 0,
  });
  return { ...version, spec: { ...version.spec, realm: 'vm' } };
}
