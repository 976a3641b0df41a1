import type { Logger } from '@lambda-fleet/common/logger';
import type { LogBatch, LogLine } from '@lambda-fleet/proto';
import type { AttemptClaim, AttemptGrants } from './attempt-grants.js';
import type { NodeSession } from './node-session.js';

/** A node that is not believed is reported this often. */
const REPORT_EVERY_MS = 60_000;

/**
 * Whether a node may speak of an attempt: it was told of the version in this session, or has the grant that some replica sent it
 * with the attempt. A stolen agent can thus invent results and lines of what it runs, and of nothing else.
 */
export class GivenAttempts {
  readonly #reports = new WeakMap<NodeSession, { at: number; refused: number }>();

  constructor(
    private readonly grants: AttemptGrants,
    private readonly log: Logger,
  ) {}

  accepts(session: NodeSession, claim: AttemptClaim): boolean {
    if (session.wasToldOf(claim) || this.grants.isGranted(session.nodeId, claim)) return true;
    this.#report(session, claim);
    return false;
  }

  /** The batch without the lines that the node has no business with. */
  accepted(session: NodeSession, batch: LogBatch): LogBatch {
    let last: LogLine | undefined;
    let accepted = false;
    const lines = batch.lines.filter((line) => {
      // Most lines are of the same attempt as the one before.
      if (last === undefined || !isSameAttempt(last, line)) accepted = this.accepts(session, line);
      last = line;
      return accepted;
    });
    return lines.length === batch.lines.length ? batch : { ...batch, lines };
  }

  #report(session: NodeSession, { invocationId, projectId }: AttemptClaim): void {
    const report = this.#reports.get(session) ?? { at: Number.NEGATIVE_INFINITY, refused: 0 };
    this.#reports.set(session, report);
    report.refused += 1;
    if (performance.now() - report.at < REPORT_EVERY_MS) return;
    report.at = performance.now();
    const about = { invocation: invocationId.slice(0, 64), project: projectId.slice(0, 64), refused: report.refused };
    this.log.warn(
      { node: session.nodeId, ...about },
      'attempt_was_not_given: a node speaks of work that is not its own',
    );
  }
}

function isSameAttempt(a: LogLine, b: LogLine): boolean {
  return (
    a.invocationId === b.invocationId &&
    a.epoch === b.epoch &&
    a.versionId === b.versionId &&
    a.functionId === b.functionId &&
    a.projectId === b.projectId
  );
}
