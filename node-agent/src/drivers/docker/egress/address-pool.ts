/** Of an egress network: a bridge of Linux has at most 1,024 ports. */
const PREFIX = 22;
const ADDRESSES = 2 ** (32 - PREFIX);

/** 198.18.0.0/15, which is for measurements and routed nowhere, in pieces of that size. */
const FIRST = toNumber('198.18.0.0');
export const SUBNETS = (2 * 65_536) / ADDRESSES;

export interface Subnet {
  readonly cidr: string;
  /** The host's own address in it. */
  readonly gateway: string;
}

export function subnetOf(index: number): Subnet {
  const network = FIRST + (index % SUBNETS) * ADDRESSES;
  return { cidr: `${toText(network)}/${PREFIX}`, gateway: toText(network + 1) };
}

/**
 * Addresses of sandboxes. One that is given back is the last to be used again: what is known about an address in the kernel
 * (connections, neighbours) has the longest time to fade. An address whose rules could not be removed is never given back.
 */
export class AddressPool {
  readonly #free: string[] = [];

  constructor({ gateway }: Subnet) {
    const first = toNumber(gateway) + 1;
    // Neither the network's own address, nor the gateway's, nor the broadcast.
    for (let index = 0; index < ADDRESSES - 3; index += 1) this.#free.push(toText(first + index));
  }

  /** Undefined when all are in use. */
  take(): string | undefined {
    return this.#free.shift();
  }

  giveBack(address: string): void {
    this.#free.push(address);
  }
}

/** Whether two networks in CIDR notation have addresses in common; one without a length is one address. */
export function overlaps(a: string, b: string): boolean {
  const [first, second] = [a, b].map((cidr) => {
    const [address = '', length = '32'] = cidr.split('/');
    const size = 2 ** (32 - Number(length));
    const from = Math.floor(toNumber(address) / size) * size;
    return { from, to: from + size - 1 };
  }) as [Span, Span];
  return first.from <= second.to && second.from <= first.to;
}

interface Span {
  readonly from: number;
  readonly to: number;
}

function toNumber(address: string): number {
  return address.split('.').reduce((number, part) => number * 256 + Number(part), 0);
}

function toText(number: number): string {
  return [24, 16, 8, 0].map((shift) => (number >>> shift) & 255).join('.');
}
