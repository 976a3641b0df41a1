import { FleetError } from '@lambda-fleet/common/errors';
import type { ResolvedVersion } from '../functions/resolved-version.js';
import type { Invoke } from '../invocations/invocation.js';
import type { ClaimedInvocation } from './async-invocation.js';
import { attemptOf, invokeAttempt } from './invoke-attempt.js';
import { type AttemptRunner, gone } from './run-attempt.js';

export interface RunFunctionOptions {
  /** @throws FleetError `function_not_found`, `unavailable` */
  readonly resolve: (projectId: string, name: string) => ResolvedVersion | Promise<ResolvedVersion>;
  /** Undefined when there is no such version. */
  readonly findVersion: (projectId: string, versionId: string) => Promise<ResolvedVersion | undefined>;
  readonly invoke: Invoke;
}

/** Makes attempts at invocations of functions. */
export function createRunFunction(options: RunFunctionOptions): AttemptRunner {
  return async (row, context) => {
    const version = await resolve(row, options);
    if (version === undefined) {
      return gone(`The function "${row.functionName}", or the version that was asked for, was deleted.`);
    }
    return attemptOf(await invokeAttempt(options.invoke, version, row, context, false));
  };
}

/** A function that was deleted and deployed anew under the same name is another one. */
async function resolve(row: ClaimedInvocation, options: RunFunctionOptions): Promise<ResolvedVersion | undefined> {
  if (row.versionId !== null) return options.findVersion(row.projectId, row.versionId);
  try {
    const version = await options.resolve(row.projectId, row.functionName);
    return version.functionId === row.functionId ? version : undefined;
  } catch (err) {
    if (err instanceof FleetError && err.code === 'function_not_found') return undefined;
    throw err;
  }
}
