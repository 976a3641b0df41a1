import { FleetError } from '@lambda-fleet/common/errors';
import { v7 as uuidv7 } from 'uuid';
import type { Database } from '../db/database.js';
import { bodiesOf } from '../executions/execution-bodies.js';
import type { ExecutionTable } from '../executions/execution-table.js';
import type { FunctionTable } from '../functions/function-table.js';
import { functionNotFound } from '../functions/function-table.js';
import type { Intake } from './intake.js';

export interface ReplaysOptions {
  readonly database: Database;
  readonly executions: ExecutionTable;
  readonly functions: FunctionTable;
  readonly intake: Intake;
}

/** Runs executions again with the events that they had. */
export class Replays {
  constructor(private readonly options: ReplaysOptions) {}

  /**
   * Queues an async invocation with the event of an execution, and resolves with its id once it is durable.
   *
   * @param version number of the version to run; undefined is the newest
   * @throws FleetError `execution_not_found`, `function_not_found`; `conflict` when its event is not kept (any more), or it
   * was not one of a function; `invalid_request` when there is no such version; `throttled`, `unavailable`
   */
  async replay(projectId: string, executionId: string, version: number | undefined): Promise<string> {
    const { database, executions, functions, intake } = this.options;
    const execution = await executions.get(projectId, executionId);
    const { functionName, trigger } = execution;
    if (trigger === 'job' || trigger === 'webhook') {
      throw new FleetError(
        'conflict',
        `An execution of a ${trigger} is not replayed: its code or address is not a function's.`,
      );
    }
    const { input, exact } = await bodiesOf(database, projectId, executionId);
    if (input === undefined || !exact) {
      throw new FleetError(
        'conflict',
        'The event of this execution is not kept: it was long and more than a day old, or the function keeps no payloads.',
      );
    }
    const newest = await functions.find(projectId, functionName);
    if (newest === undefined) throw functionNotFound(functionName);
    const versionId = version === undefined ? null : await functions.versionId(projectId, functionName, version);
    if (versionId === undefined) {
      throw new FleetError('invalid_request', `"${functionName}" has no version ${version}.`, { field: 'version' });
    }
    const id = uuidv7();
    await intake.accept({
      ...{ id, projectId, laneId: newest.id, kind: 'function', functionId: newest.id, functionName, versionId },
      ...{ trigger: 'replay', payload: input, context: { sourceId: executionId }, maxAgeMs: newest.asyncMaxAgeMs },
    });
    return id;
  }
}
