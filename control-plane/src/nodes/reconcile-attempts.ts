import { errorText } from '@lambda-fleet/common/errors';
import type { Logger } from '@lambda-fleet/common/logger';
import type { InvocationRef } from '@lambda-fleet/proto';
import type { Database } from '../db/database.js';
import { areUuids } from './agent-claims.js';
import type { NodeSession } from './node-session.js';

/** More than an agent keeps and runs; what a longer Hello lists is left alone. */
const REFS_MAX = 12_000;
const EPOCH_MAX = 2 ** 31 - 1;

/**
 * Tells an agent that has connected what of the work that it has is over: results that are committed or that nobody
 * will take are acknowledged, and what runs for nothing is ended, because another attempt has begun or the invocation has ended.
 * What is not known here goes on: it is a sync invocation, of which the database hears when it has ended.
 *
 * While the database is away everything goes on, and results are fenced as ever. Never rejects.
 */
export async function reconcileAttempts(database: Database, session: NodeSession, log: Logger): Promise<void> {
  const { running, keptResults } = session.hello;
  const refs = [...running.map((ref) => ({ ref, kept: false })), ...keptResults.map((ref) => ({ ref, kept: true }))]
    .filter(({ ref }) => areUuids([ref.invocationId]) && ref.epoch <= EPOCH_MAX)
    .slice(0, REFS_MAX);
  if (refs.length === 0) return;
  const rows = refs.map(({ ref: { invocationId, epoch }, kept }) => ({ id: invocationId, epoch, kept }));
  try {
    const over = await findOver(database, session.nodeId, rows);
    const results = over.filter(({ kept }) => kept).map(refOf);
    if (results.length > 0) session.acknowledge(results);
    for (const attempt of over) if (!attempt.kept) session.cancel(refOf(attempt));
    if (over.length > 0) log.info({ node: session.nodeId, had: rows.length, over: over.length }, 'attempts_reconciled');
  } catch (err) {
    log.warn({ node: session.nodeId, reason: errorText(err) }, 'attempts_not_reconciled');
  }
}

interface HeldAttempt {
  readonly id: string;
  readonly epoch: number;
  /** Its result is kept; otherwise it runs. */
  readonly kept: boolean;
}

/**
 * - In the queue: over unless it is the attempt that runs, on this node.
 * - Recorded: over, but for a sync invocation whose link broke: the agent's word replaces that it is unknown how it ended.
 */
function findOver(database: Database, nodeId: string, held: readonly HeldAttempt[]): Promise<readonly HeldAttempt[]> {
  return database.run(
    'find attempts that are over',
    (sql) => sql<HeldAttempt[]>`
      select h.id, h.epoch, h.kept
      from jsonb_to_recordset(${sql.json(held.map((attempt) => ({ ...attempt })))}) as h (id uuid, epoch integer, kept boolean)
      left join async_invocations a on a.id = h.id
      left join executions e on e.id = h.id
      where case
        when a.id is not null then
          a.epoch > h.epoch or a.epoch = h.epoch and (a.status <> 'running' or a.node_id is distinct from ${nodeId}::text)
        else e.epoch >= h.epoch and (e.outcome <> 'outcome_unknown' or e.accepted_at is not null)
      end`,
  );
}

const refOf = ({ id, epoch }: HeldAttempt): InvocationRef => ({ invocationId: id, epoch });
