import { BlockList, isIPv4 } from 'node:net';

/**
 * What no sandbox may reach: everything that IANA calls not globally reachable, and addresses at which clouds answer their
 * machines although they look public. The TEST-NETs are not among them: nobody is there, and tests need some address.
 */
export const BLOCKED_RANGES = [
  // "This host", and what Linux takes for itself.
  '0.0.0.0/8',
  '10.0.0.0/8',
  // Carrier-grade NAT; overlay networks and a cloud's metadata (100.100.100.200) use it too.
  '100.64.0.0/10',
  '127.0.0.0/8',
  // Link-local, and with it the metadata of most clouds.
  '169.254.0.0/16',
  '172.16.0.0/12',
  // Protocol assignments; another cloud's metadata (192.0.0.192).
  '192.0.0.0/24',
  // Relays to IPv6, withdrawn.
  '192.88.99.0/24',
  '192.168.0.0/16',
  // For measurements; sandboxes themselves are here.
  '198.18.0.0/15',
  // A cloud's own services for its machines, at a public address.
  '168.63.129.16/32',
  // Multicast, reserved, broadcast.
  '224.0.0.0/3',
] as const;

const blocked = new BlockList();
for (const range of BLOCKED_RANGES) {
  const [network = '', prefix = ''] = range.split('/');
  blocked.addSubnet(network, Number(prefix), 'ipv4');
}

/** Whether an address, in the usual dotted form, is an IPv4 address that sandboxes may reach. There is no IPv6 for them. */
export function isPublicAddress(address: string): boolean {
  return isIPv4(address) && !blocked.check(address, 'ipv4');
}
