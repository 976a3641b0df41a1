import type { AsyncInvocations } from '../async/async-invocations.js';
import type { OpenInvocation } from '../async/open-invocations.js';
import {
  checkCursor,
  type Execution,
  type ExecutionFilter,
  type ExecutionTable,
} from '../executions/execution-table.js';

/** Of invocations that have not ended, besides the statuses of executions. */
export const OPEN_STATUSES = ['queued', 'running'] as const;
export type OpenStatus = (typeof OPEN_STATUSES)[number];

export interface ListedPage {
  readonly executions: readonly (Execution | OpenInvocation)[];
  readonly nextBeforeId: string | undefined;
}

/**
 * Executions and async invocations that have not ended, as one list in the order of their ids, newest first. Those that have
 * not ended are left out when the filter asks for how something ended.
 */
export async function listWithOpen(
  projectId: string,
  filter: ExecutionFilter,
  openStatus: OpenStatus | undefined,
  { executions, asyncInvocations }: { executions: ExecutionTable; asyncInvocations: AsyncInvocations },
): Promise<ListedPage> {
  const { limit } = filter;
  checkCursor(filter.beforeId);
  const endsAsked = filter.outcome !== undefined || filter.status !== undefined;
  const ended =
    openStatus === undefined ? await executions.list(projectId, filter) : { executions: [], nextBeforeId: undefined };
  if (endsAsked) return ended;
  const open = await asyncInvocations.list(projectId, { ...filter, status: openStatus, limit: limit + 1 });
  // One that ended between the two questions is in both, or in neither: then the next look finds it.
  const known = new Set(ended.executions.map(({ id }) => id));
  const boundary = ended.nextBeforeId;
  const all = [
    ...ended.executions,
    ...open.filter(({ id }) => !known.has(id) && (boundary === undefined || id >= boundary)),
  ];
  all.sort((a, b) => (a.id < b.id ? 1 : -1));
  const page = all.slice(0, limit);
  return { executions: page, nextBeforeId: all.length > limit ? page.at(-1)?.id : boundary };
}
