import { errorText } from '@lambda-fleet/common/errors';
import type { Logger } from '@lambda-fleet/common/logger';
import { v5 as uuidv5, v7 as uuidv7 } from 'uuid';
import type { ResolvedVersion } from '../functions/resolved-version.js';
import type { AttemptEnd, ClaimedInvocation, NewAsyncInvocation } from './async-invocation.js';
import { destinationRecord } from './destination-record.js';
import type { Verdict } from './judge-attempt.js';

export interface DestinationsOptions {
  /** @throws FleetError `function_not_found`, `unavailable` */
  readonly resolve: (projectId: string, name: string) => ResolvedVersion | Promise<ResolvedVersion>;
  readonly log: Logger;
}

/** A chain of destinations that is longer than this leads in a circle. As AWS Lambda's own limit. */
const HOPS_MAX = 16;

const WEBHOOK_MAX_AGE_MS = 6 * 3_600_000;

/** Name space of the lanes of webhooks. Arbitrary, and never to change: rows hold these ids. */
const LANE_IDS = '5f0a1c9e-3a0c-4c55-8f0e-6a2b8c5d7e31';

/** Builds what an ended async invocation sends to its function's destinations. */
export class Destinations {
  constructor(private readonly options: DestinationsOptions) {}

  /**
   * To be queued in the statement that ends `row`; undefined when its end goes nowhere.
   *
   * @throws FleetError `unavailable`
   */
  async sendsOf(
    row: ClaimedInvocation,
    verdict: Verdict,
    end: AttemptEnd,
    made: { readonly executedVersion: string; readonly body: Buffer | undefined },
  ): Promise<NewAsyncInvocation | undefined> {
    if (row.kind !== 'function') return undefined;
    const destination =
      verdict.kind === 'succeeded' ? row.onSuccess : verdict.kind === 'dead' ? row.onFailure : undefined;
    if (destination === undefined || destination === null) return undefined;
    const hops = (row.context.hops ?? 0) + 1;
    if (hops > HOPS_MAX) {
      this.options.log.warn({ invocation: row.id, function: row.functionName }, 'destination_leads_in_a_circle');
      return undefined;
    }
    const condition = verdict.kind === 'dead' ? verdict.condition : 'Success';
    const invokeCount = verdict.attempts + verdict.losses;
    const payload = destinationRecord(row, end, { ...made, condition, invokeCount, at: new Date() });
    const base = { id: uuidv7(), projectId: row.projectId, versionId: null, payload } as const;
    const context = { sourceId: row.id, hops };
    if ('url' in destination) {
      const { functionId, functionName } = row;
      const laneId = uuidv5(functionId, LANE_IDS);
      const whereTo = { ...context, url: destination.url };
      return {
        ...base,
        kind: 'webhook',
        trigger: 'webhook',
        laneId,
        functionId,
        functionName,
        context: whereTo,
        maxAgeMs: WEBHOOK_MAX_AGE_MS,
      };
    }
    const target = await this.#target(row, destination.function);
    if (target === undefined) return undefined;
    const { functionId, functionName, asyncMaxAgeMs } = target;
    return {
      ...base,
      kind: 'function',
      trigger: 'destination',
      laneId: functionId,
      functionId,
      functionName,
      context,
      maxAgeMs: asyncMaxAgeMs,
    };
  }

  async #target(row: ClaimedInvocation, name: string): Promise<ResolvedVersion | undefined> {
    try {
      return await this.options.resolve(row.projectId, name);
    } catch (err) {
      if (err instanceof Error && 'code' in err && err.code === 'unavailable') throw err;
      const about = { invocation: row.id, function: row.functionName, destination: name, reason: errorText(err) };
      this.options.log.warn(about, 'destination_not_found');
      return undefined;
    }
  }
}
