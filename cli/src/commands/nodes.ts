import { type NodeResource, NodesApi } from '../api/nodes.js';
import type { OutputFormat } from '../arguments.js';
import type { ServerFlags } from '../find-server.js';
import type { Session } from '../session.js';
import { renderFields, renderTable } from '../table.js';
import { bytesText, countText, printable } from '../terminal-text.js';
import { hasLabels, type LabelFilter, pickNode, pickNodes } from './pick-nodes.js';

export interface SelectNodesOptions extends ServerFlags {
  readonly label: LabelFilter;
}

export interface ListNodesOptions extends SelectNodesOptions {
  readonly output: OutputFormat;
}

export async function listNodes(session: Session, options: ListNodesOptions): Promise<void> {
  const { output } = session;
  const nodes = (await new NodesApi(session.connect(options)).list()).filter((node) => hasLabels(node, options.label));
  if (options.output === 'json') return await output.data(`${JSON.stringify(nodes, null, 2)}\n`);
  if (options.output === 'name') return await output.data(nodes.map(({ id }) => `${printable(id)}\n`).join(''));
  if (nodes.length === 0) {
    output.note(options.label.length === 0 ? 'No nodes.' : 'No such nodes.');
    return;
  }
  const rows = nodes.map((node) => [
    node.id,
    stateOf(node),
    node.isolation.join(','),
    node.capacity === null ? '' : `${node.capacity.slotsFree}/${node.capacity.slotsTotal}`,
    node.capacity === null ? '' : bytesText(node.capacity.memoryBytesFree),
    node.connected ? `${node.sandboxes.busy} busy, ${node.sandboxes.idle} idle` : '',
    labelsText(node),
  ]);
  await output.data(
    renderTable(['ID', 'STATE', 'ISOLATION', 'SLOTS FREE', 'MEMORY FREE', 'SANDBOXES', 'LABELS'], rows),
  );
}

export async function getNode(
  session: Session,
  name: string,
  options: ServerFlags & { readonly output: OutputFormat },
): Promise<void> {
  const api = new NodesApi(session.connect(options));
  const node = await api.get(pickNode(await api.list(), name).id);
  const { output } = session;
  if (options.output === 'json') return await output.data(`${JSON.stringify(node, null, 2)}\n`);
  if (options.output === 'name') return await output.data(`${printable(node.id)}\n`);
  const { capacity, sandboxes, selfTest } = node;
  const fields: (readonly [string, string])[] = [
    ['id', node.id],
    ['state', stateOf(node)],
    ['labels', labelsText(node)],
    ['isolation', node.isolation.join(', ')],
    ['networks', node.networks.join(', ')],
    ['runtimes', node.runtimes.map((runtime) => runtime.name).join(', ')],
    ['architecture', node.architecture],
    ['agent', node.agentVersion],
    ['last seen', node.lastSeenAt],
  ];
  if (capacity !== null) {
    fields.push(['slots', `${capacity.slotsFree} of ${capacity.slotsTotal} free`]);
    fields.push(['memory', `${bytesText(capacity.memoryBytesFree)} of ${bytesText(capacity.memoryBytesTotal)} free`]);
    fields.push(['sandboxes', `${sandboxes.busy} busy, ${sandboxes.idle} idle, ${sandboxes.blank} blank`]);
  }
  for (const check of selfTest ?? []) {
    const text = `${check.passed ? 'ok' : 'failed'}  ${check.isolation}: ${check.check}${check.detail === '' ? '' : ` – ${check.detail}`}`;
    fields.push(['self-test', text]);
  }
  await output.data(renderFields([...fields, ...drainFields(node)]));
  if (node.events === undefined || node.events.length === 0) return;
  const rows = node.events.map(({ at, kind, detail }) => [at, kind, JSON.stringify(detail)]);
  await output.data(`\n${renderTable(['AT', 'EVENT', 'DETAIL'], rows)}`);
}

/** Cordons or uncordons. */
export async function switchNodes(
  session: Session,
  names: readonly string[],
  to: 'cordon' | 'uncordon',
  options: SelectNodesOptions,
): Promise<void> {
  const api = new NodesApi(session.connect(options));
  for (const { id } of pickNodes(await api.list(), names, options.label)) {
    await api.setEligible(id, to === 'uncordon');
    session.output.note(to === 'cordon' ? `${id} is cordoned.` : `${id} takes work again.`);
  }
}

export async function undrainNodes(
  session: Session,
  names: readonly string[],
  options: SelectNodesOptions & { readonly keepIneligible?: boolean },
): Promise<void> {
  const api = new NodesApi(session.connect(options));
  for (const { id } of pickNodes(await api.list(), names, options.label)) {
    const { cordoned } = await api.undrain(id, options.keepIneligible === true);
    session.output.note(cordoned ? `${id} does not drain, and stays cordoned.` : `${id} takes work again.`);
  }
}

/** In one or two words. */
function stateOf({ connected, eligible, cordoned, leaving, drain }: NodeResource): string {
  const decided = drain?.state === 'draining' ? 'draining' : cordoned ? cordonText(drain?.state) : undefined;
  if (!connected) return decided === undefined ? 'away' : `away, ${decided}`;
  if (leaving) return 'leaving';
  return decided ?? (eligible ? 'ready' : 'silent');
}

function cordonText(drainState: string | undefined): string {
  return drainState === 'complete' ? 'drained' : drainState === 'lost' ? 'lost' : 'cordoned';
}

function drainFields({ drain }: NodeResource): (readonly [string, string])[] {
  if (drain === null) return [];
  const { killed, requeued, deadlineReached } = drain.result;
  const ended = drain.endedAt === null ? '' : ` at ${drain.endedAt}`;
  return [
    [
      'drain',
      `${drain.state}${ended}, begun at ${drain.startedAt}${drain.message === null ? '' : `: ${drain.message}`}`,
    ],
    ['drain deadline', `${drain.deadlineAt ?? 'none'}${deadlineReached ? ', reached' : ''}`],
    ['drain result', `${countText(killed, 'invocation', 'invocations')} killed, ${requeued} requeued`],
  ];
}

function labelsText({ labels }: NodeResource): string {
  return Object.entries(labels)
    .map(([key, value]) => `${key}=${value}`)
    .join(',');
}
