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
  readonly #refused = new Networks();
  readonly #allowed = new Networks();

  /** @param allowed networks that an operator lets in all the same, like `10.1.0.0/16`. @throws Error for what is none */
  constructor(allowed: readonly string[] = []) {
    for (const network of NOT_PUBLIC) this.#refused.add(network);
    for (const network of allowed) this.#allowed.add(network);
  }

  /** @param address as text; what is none is refused, as is one with a zone, which only means something on its own link */
  permits(address: string): boolean {
    const plain = plainAddress(address);
    return plain !== undefined && (this.#allowed.include(plain) || !this.#refused.include(plain));
  }
}

/**
 * Networks of both families, in a list each: a `BlockList` that holds both compares an IPv4 address with IPv6 networks as if
 * it were `::ffff:a.b.c.d`, and `::/3` includes that.
 */
class Networks {
  readonly #lists = { 4: new BlockList(), 6: new BlockList() };

  /** @throws Error for what is no network */
  add(network: string): void {
    const [address = '', prefix] = network.split('/');
    const family = isIP(address);
    const bits = prefix === undefined ? bitsOf(family) : /^\d+$/.test(prefix) ? Number(prefix) : Number.NaN;
    if ((family !== 4 && family !== 6) || !(bits <= bitsOf(family))) {
      throw new Error(`${network} is not a network like 10.1.0.0/16`);
    }
    this.#lists[family].addSubnet(address, bits, `ipv${family}`);
  }

  include(address: string): boolean {
    const family = isIP(address);
    return (family === 4 || family === 6) && this.#lists[family].check(address, `ipv${family}`);
  }
}

const bitsOf = (family: number): number => (family === 6 ? 128 : 32);

/** The IPv4 address that a mapped one stands for (`::ffff:127.0.0.1`, `::ffff:7f00:1`), and any other one in its one spelling. */
function plainAddress(address: string): string | undefined {
  if (isIP(address) === 4) return address;
  if (isIP(address) === 0 || address.includes('%')) return undefined;
  const written = new URL(`http://[${address}]`).hostname.slice(1, -1);
  const [, high, low] = /^::ffff:([0-9a-f]{1,4}):([0-9a-f]{1,4})$/.exec(written) ?? [];
  if (high === undefined || low === undefined) return written;
  const [a, b] = [Number.parseInt(high, 16), Number.parseInt(low, 16)];
  return [a >> 8, a & 255, b >> 8, b & 255].join('.');
}
