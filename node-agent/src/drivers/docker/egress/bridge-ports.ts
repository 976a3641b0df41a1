import type { Link, NetworkNamespace } from './network-namespace.js';

/**
 * Makes ports of a bridge pass nothing to each other: only the host is left for them. The firewall says so as well, but sees
 * what a bridge passes on only where the kernel is set so (`br_netfilter`).
 */
export async function isolatePorts(namespace: NetworkNamespace, ports: readonly Link[]): Promise<void> {
  const open = ports.filter(({ linkinfo }) => linkinfo?.info_slave_data?.isolated !== true);
  if (open.length === 0) return;
  const lines = open.map(({ ifname }) => `link set dev ${ifname} type bridge_slave isolated on\n`);
  await namespace.run('ip', ['-batch', '-'], lines.join(''));
}
