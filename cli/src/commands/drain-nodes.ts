import { type DrainAsked, type DrainPlan, type NodeResource, NodesApi } from '../api/nodes.js';
import type { OutputFormat } from '../arguments.js';
import { CliError, usageError } from '../cli-error.js';
import { confirm } from '../confirm.js';
import { EXIT } from '../exit-codes.js';
import type { Session } from '../session.js';
import { renderTable } from '../table.js';
import { countText, durationText, printable } from '../terminal-text.js';
import type { SelectNodesOptions } from './nodes.js';
import { pickNodes } from './pick-nodes.js';
import { type WatchedDrain, watchDrains } from './watch-drains.js';

export interface DrainNodesOptions extends SelectNodesOptions {
  /** Milliseconds; false has none. */
  readonly deadline: number | false;
  readonly force?: boolean;
  readonly minEligible: number;
  readonly dryRun?: boolean;
  readonly detach?: boolean;
  readonly monitor?: boolean;
  readonly message?: string;
  readonly yes?: boolean;
  readonly output: OutputFormat;
}

/** Drains nodes, all checks first, and waits for them. Returns the exit status. */
export async function drainNodes(
  session: Session,
  names: readonly string[],
  options: DrainNodesOptions,
): Promise<number> {
  if (options.monitor === true && (options.detach === true || options.dryRun === true))
    throw usageError('--monitor waits for drains that go on: it goes with neither --detach nor --dry-run.');
  const api = new NodesApi(session.connect(options));
  const nodes = pickNodes(await api.list(), names, options.label);
  if (options.monitor === true) return await finish(session, api, drainsOf(nodes), options.output);

  const ids = nodes.map(({ id }) => id);
  const askedOf = (id: string): DrainAsked => ({
    deadlineMs: options.deadline === false ? null : options.deadline,
    force: options.force === true,
    message: options.message ?? null,
    minEligible: options.minEligible,
    alongside: ids.filter((other) => other !== id),
  });
  const plans: DrainPlan[] = [];
  for (const id of ids) plans.push(await api.plan(id, askedOf(id)));
  if (options.dryRun === true) await printPlans(session, plans, options.output);
  else for (const plan of plans) for (const line of planLines(plan)) session.output.note(line);
  if (options.force !== true) refuseIfBroken(plans);
  if (options.dryRun === true) return EXIT.ok;

  if (options.yes !== true && process.stdin.isTTY && process.stderr.isTTY)
    await confirm(`Drain ${printable(ids.join(', '))}?`, 'Nothing was changed.');
  // None of them is to take over what another one gives up.
  if (ids.length > 1) for (const id of ids) await api.setEligible(id, false);
  const started: NodeResource[] = [];
  for (const id of ids) started.push(await api.drain(id, askedOf(id)));
  if (options.detach !== true) return await finish(session, api, drainsOf(started), options.output);
  for (const { id } of started) session.output.note(`${id} drains. Watch it: lambda node drain --monitor ${id}`);
  if (options.output === 'json') await session.output.data(`${JSON.stringify(started, null, 2)}\n`);
  if (options.output === 'name') await session.output.data(ids.map((id) => `${printable(id)}\n`).join(''));
  return EXIT.ok;
}

/** @throws CliError for a node that never drained */
function drainsOf(nodes: readonly NodeResource[]): readonly WatchedDrain[] {
  return nodes.map(({ id, drain }) => {
    if (drain === null) throw new CliError(`${printable(id)} does not drain.`, { exitCode: EXIT.refused });
    return { nodeId: id, drainId: drain.id };
  });
}

/** Waits, prints how they ended, and says so as an exit status. */
async function finish(
  session: Session,
  api: NodesApi,
  drains: readonly WatchedDrain[],
  format: OutputFormat,
): Promise<number> {
  const { output } = session;
  const ended = await watchDrains(api, drains, output);
  if (ended === 'interrupted') {
    const ids = drains.map(({ nodeId }) => nodeId).join(' ');
    output.note(`No longer watching; the drain goes on. Watch it again: lambda node drain --monitor ${ids}`);
    return EXIT.interrupted;
  }
  if (format === 'json') await output.data(`${JSON.stringify(ended, null, 2)}\n`);
  else if (format === 'name') {
    const complete = ended.filter(({ state }) => state === 'complete');
    await output.data(complete.map(({ node }) => `${printable(node)}\n`).join(''));
  } else {
    const rows = ended.map(({ node, state, deadlineReached, killed, requeued, tookMs }) => [
      ...[node, state, durationText(tookMs), deadlineReached ? 'reached' : 'not reached'],
      ...[String(killed), String(requeued)],
    ]);
    await output.data(renderTable(['NODE', 'DRAIN', 'TOOK', 'DEADLINE', 'KILLED', 'REQUEUED'], rows));
  }
  if (ended.some(({ state }) => state !== 'complete')) return EXIT.error;
  return ended.some(({ deadlineReached }) => deadlineReached) ? EXIT.deadline : EXIT.ok;
}

async function printPlans({ output }: Session, plans: readonly DrainPlan[], format: OutputFormat): Promise<void> {
  if (format === 'json') return await output.data(`${JSON.stringify(plans, null, 2)}\n`);
  if (format === 'name') return await output.data(plans.map(({ node }) => `${printable(node)}\n`).join(''));
  await output.data(plans.flatMap((plan) => planLines(plan).map((line) => `${line}\n`)).join(''));
}

function planLines({ node, connected, inFlight, etaMs, idle, blanks, floors }: DrainPlan): string[] {
  if (!connected) return [`${printable(node)} is not connected: its drain ends when it comes back, or it is lost.`];
  const eta =
    inFlight === 0
      ? 'nothing runs there'
      : `${inFlight} in flight, all of it over in ${durationText(etaMs)} at the latest`;
  const idleText = countText(idle, 'idle sandbox', 'idle sandboxes');
  const blanksText = countText(blanks, 'blank', 'blanks');
  const moves = floors.map(({ functionName, sandboxes, to }) => {
    const places = to.map((move) => `${move.sandboxes} on ${move.node}`).join(', ');
    return `  ${printable(functionName)}: ${sandboxes} kept ready there, ${printable(places) || 'nowhere'} instead`;
  });
  return [`${printable(node)}: ${eta}; ${idleText} and ${blanksText} go.`, ...moves];
}

/** @throws CliError with all reasons of all nodes, and the flags that override them */
function refuseIfBroken(plans: readonly DrainPlan[]): void {
  const broken = plans.flatMap(({ node, reasons }) =>
    reasons.map(({ message, override }) => printable(`  ${node}: ${message} (${override} overrides this)`)),
  );
  if (broken.length === 0) return;
  throw new CliError(`Refused by the checks; nothing was changed.\n${broken.join('\n')}`, {
    exitCode: EXIT.refused,
    next: 'Bring other nodes into service first, or override it.',
  });
}
