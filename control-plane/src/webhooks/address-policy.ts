import { BlockList, isIP } from 'node:net';

/**
 * Addresses that a webhook may not be sent to: those of this host, of private networks, of cloud metadata services, and
 * whatever else is not a public unicast address (IANA's special-purpose registries).
 */
const NOT_PUBLIC = [
  '0.0.0.0/8',
  '10.0.0.0/8',
  '100.64.0.0/10',
  '127.0.0.0/8',
  '169.254.0.0/16',
  '172.16.0.0/12',
  '192.0.0.0/24',
  '192.0.2.0/24',
  '192.31.196.0/24',
  '192.52.193.0/24',
  '192.88.99.0/24',
  '192.168.0.0/16',
  '192.175.48.0/24',
  '198.18.0.0/15',
  '198.51.100.0/24',
  '203.0.113.0/24',
  '224.0.0.0/3',
  // Everything but global unicast, and within that what embeds an IPv4 address or is for documentation.
  '::/3',
  '4000::/2',
  '8000::/1',
  '2001::/23',
  '2001:db8::/32',
  '2002::/16',
  '3fff::/20',
];

/** Decides where webhooks may be sent. */
export class AddressPolicy {
  readonly #refused = new BlockList();
  readonly #allowed = new BlockList();

  /** @param allowed networks that an operator lets in all the same, like `10.1.0.0/16`. @throws Error for what is none */
  constructor(allowed: readonly string[] = []) {
    for (const network of NOT_PUBLIC) add(this.#refused, network);
    for (const network of allowed) add(this.#allowed, network);
  }

  /** @param address an IP address as text */
  permits(address: string): boolean {
    const kind = isIP(address) === 6 ? 'ipv6' : 'ipv4';
    // `::ffff:127.0.0.1` is checked as the IPv4 address that it is.
    const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1];
    if (mapped !== undefined) return this.permits(mapped);
    return this.#allowed.check(address, kind) || !this.#refused.check(address, kind);
  }
}

function add(list: BlockList, network: string): void {
  const [address = '', prefix] = network.split('/');
  const version = isIP(address);
  const bits = Number(prefix ?? (version === 6 ? 128 : 32));
  if (version === 0 || !Number.isInteger(bits) || bits < 0 || bits > (version === 6 ? 128 : 32)) {
    throw new Error(`${network} is not a network like 10.1.0.0/16`);
  }
  list.addSubnet(address, bits, version === 6 ? 'ipv6' : 'ipv4');
}
