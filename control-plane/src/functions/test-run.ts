import { FleetError } from '@lambda-fleet/common/errors';
import { PAYLOAD_BYTES_MAX } from '@lambda-fleet/common/limits';
import { InvokeKind } from '@lambda-fleet/proto';
import { v7 as uuidv7 } from 'uuid';
import type { PostgresArtifactStore } from '../artifacts/postgres-artifact-store.js';
import type { InvocationResult, Invoke } from '../invocations/invocation.js';
import type { LogCapture } from '../logs/log-capture.js';
import type { LogLine } from '../logs/log-line.js';
import { type ArchiveUpload, archiveOf } from './code.js';
import { configOf, type DefinitionChanges } from './definition.js';
import { resolvedVersionOf } from './function-record.js';
import { checkPackaging } from './packaging.js';

export interface TestRunOptions {
  readonly artifacts: PostgresArtifactStore;
  readonly invoke: Invoke;
  readonly forgetVersions: (versionIds: readonly string[]) => void;
  readonly logs: LogCapture;
}

export interface TestRunRequest {
  readonly definition: DefinitionChanges;
  readonly code: ArchiveUpload;
  /** Any JSON value; `{}` when absent. */
  readonly event: unknown;
  /** Treats the event as an HTTP event and the result as an HTTP response. */
  readonly http: boolean;
}

export interface TestRunResult {
  readonly result: InvocationResult;
  readonly logs: readonly LogLine[];
}

/** Runs code once that is not a function: its sandbox is used once, and nothing of it is kept. */
export async function runTest(
  projectId: string,
  request: TestRunRequest,
  { artifacts, invoke, forgetVersions, logs }: TestRunOptions,
): Promise<TestRunResult> {
  const arrivedAt = performance.now();
  const payload = Buffer.from(eventText(request.event));
  if (payload.length > PAYLOAD_BYTES_MAX) {
    throw new FleetError(
      'payload_too_large',
      `event has ${payload.length} bytes; at most ${PAYLOAD_BYTES_MAX} are allowed.`,
    );
  }
  const config = configOf('test', request.definition);
  checkPackaging(config, request.code, undefined);
  const stored = await artifacts.put(projectId, await archiveOf(request.code, config.runtime));
  const version = resolvedVersionOf({
    ...config,
    id: uuidv7(),
    projectId,
    versionId: uuidv7(),
    version: 1,
    artifactSha256: stored.sha256,
    artifactBytes: stored.bytes,
    image: null,
    asyncMaxAgeMs: 0,
  });
  const id = uuidv7();
  const capture = logs.begin(id);
  try {
    const result = await invoke(version, {
      id,
      kind: request.http ? InvokeKind.HTTP : InvokeKind.EVENT,
      trigger: 'test',
      payload,
      traceId: '',
      clientContext: '',
      singleUse: true,
      arrivedAt,
      resolveMs: 0,
      receiveMs: 0,
    });
    return { result, logs: capture.lines() };
  } finally {
    capture.end();
    forgetVersions([version.spec.versionId]);
    // The sweep removes what this does not.
    await artifacts.takeBack(projectId, stored).catch(() => undefined);
  }
}

function eventText(event: unknown): string {
  try {
    return JSON.stringify(event ?? {});
  } catch (err) {
    // JSON.parse reads any depth, JSON.stringify does not write it.
    throw new FleetError('invalid_request', 'event is nested too deeply.', { field: 'event' }, { cause: err });
  }
}
