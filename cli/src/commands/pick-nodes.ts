import type { NodeResource } from '../api/nodes.js';
import { CliError, usageError } from '../cli-error.js';
import { EXIT } from '../exit-codes.js';
import { printable } from '../terminal-text.js';

export type LabelFilter = readonly (readonly [key: string, value: string])[];

/**
 * The nodes that are named, each once, or those that have all labels.
 *
 * @throws CliError when a name fits none or several, or nothing was named
 */
export function pickNodes(
  nodes: readonly NodeResource[],
  names: readonly string[],
  labels: LabelFilter,
): readonly NodeResource[] {
  if (names.length > 0 && labels.length > 0)
    throw usageError('Nodes are named, or chosen by -l key=value, and not both.');
  if (names.length === 0 && labels.length === 0)
    throw usageError('No node is named.', 'Name some, or choose them with -l key=value; `lambda node ls` lists them.');
  if (labels.length === 0) return [...new Set(names.map((name) => pickNode(nodes, name)))];
  const found = nodes.filter((node) => hasLabels(node, labels));
  if (found.length > 0) return found;
  const wanted = labels.map(([key, value]) => `${key}=${value}`).join(', ');
  throw new CliError(`No node has the label ${wanted}.`, { exitCode: EXIT.notFound, next: 'lambda node ls' });
}

/** By its id, or by how the id of exactly one node begins. */
export function pickNode(nodes: readonly NodeResource[], name: string): NodeResource {
  const [first, ...others] = nodes.filter(({ id }) => id === name || id.startsWith(name));
  const exact = nodes.find(({ id }) => id === name);
  if (exact !== undefined) return exact;
  if (first === undefined || name === '') {
    throw new CliError(`There is no node ${printable(name)}.`, { exitCode: EXIT.notFound, next: 'lambda node ls' });
  }
  if (others.length === 0) return first;
  const ids = [first, ...others].map(({ id }) => id).join(', ');
  throw usageError(`${printable(name)} is how several nodes begin: ${printable(ids)}.`, 'Give more of the id.');
}

export function hasLabels({ labels }: NodeResource, wanted: LabelFilter): boolean {
  return wanted.every(([key, value]) => Object.hasOwn(labels, key) && labels[key] === value);
}
