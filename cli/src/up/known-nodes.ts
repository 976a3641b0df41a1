import type { ApiClient } from '../api/client.js';

/** The ids of the fleet's nodes; undefined when they cannot be had. Those that were removed are not among them. */
export async function knownNodes(client: ApiClient): Promise<ReadonlySet<string> | undefined> {
  try {
    const page = (await client.json({ method: 'GET', path: '/api/nodes' })) as { nodes?: unknown } | undefined;
    if (!Array.isArray(page?.nodes)) return undefined;
    return new Set(page.nodes.map((node: { id?: unknown } | null) => String(node?.id)));
  } catch {
    // The start goes on with what there is.
    return undefined;
  }
}
