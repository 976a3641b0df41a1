import type { Subnet } from './address-pool.js';
import { BLOCKED_RANGES } from './public-address.js';

export interface FirewallPlace {
  /** Of nftables; nobody else's. */
  readonly table: string;
  readonly bridge: string;
  readonly subnet: Subnet;
  /** Of the gateway's address, where the name server listens: port 53 may be taken by one of the machine's own. */
  readonly namePort: number;
}

/** At the same time, of one sandbox: the kernel's table of connections is everybody's. */
const CONNECTIONS_MAX = 512;
const QUERIES_PER_SECOND = 100;
/** As many as a bridge has ports. */
const SANDBOXES_MAX = 1_024;
/** Pairs of a sandbox and an address that it may reach. */
const PAIRS_MAX = 256 * SANDBOXES_MAX;
/** Before the tables of others: what is dropped here nobody sees, and what is accepted here they still may drop. */
const PRIORITY = -10;

/**
 * The whole firewall of an egress network, as one transaction that replaces what there was.
 *
 * From the bridge nothing reaches the host but queries to its name server, and nothing is forwarded unless the sandbox's
 * address is *open* (to every public address) or the pair of it and the destination is *allowed*; both sets begin empty.
 * What is refused is refused aloud, so that a function fails at once instead of waiting.
 *
 * An established connection goes on when its pair expires, as long as it carries the mark of the sandbox that began it
 * (its *generation*): a later sandbox with the same address does not inherit it.
 *
 * `ct status dnat` refuses what was on its way to the host's own address and was redirected by somebody's rules to
 * another place. Options of IP could name a route past all this.
 */
export function firewallRules({ table, bridge, subnet, namePort }: FirewallPlace): string {
  const { cidr, gateway } = subnet;
  return `
add table inet ${table}
delete table inet ${table}
table inet ${table} {
  set blocked { type ipv4_addr; flags interval; elements = { ${BLOCKED_RANGES.join(', ')} }; }
  set open { type ipv4_addr; size ${SANDBOXES_MAX}; }
  set allowed { type ipv4_addr . ipv4_addr; size ${PAIRS_MAX}; flags timeout; }
  map generation { type ipv4_addr : mark; size ${SANDBOXES_MAX}; }
  set current { typeof ip saddr . ct mark; size ${SANDBOXES_MAX}; }
  set queries { type ipv4_addr; size ${SANDBOXES_MAX}; flags dynamic,timeout; timeout 1m; }
  set connections { type ipv4_addr; size ${SANDBOXES_MAX}; flags dynamic; }

  chain refuse {
    meta l4proto tcp reject with tcp reset
    reject with icmpx admin-prohibited
  }
  chain admit {
    ct mark set ip saddr map @generation
    accept
  }
  chain to_host {
    ip saddr ${cidr} ip daddr ${gateway} udp dport ${namePort} goto to_names
    goto refuse
  }
  chain to_names {
    add @queries { ip saddr limit rate over ${QUERIES_PER_SECOND}/second burst ${QUERIES_PER_SECOND} packets } drop
    accept
  }
  chain to_world {
    meta nfproto != ipv4 drop
    ip hdrlength != 5 drop
    ip saddr != ${cidr} drop
    ip daddr @blocked goto refuse
    ct status dnat goto refuse
    ct state established,related ip saddr . ct mark @current accept
    ct state new add @connections { ip saddr ct count over ${CONNECTIONS_MAX} } goto refuse
    ip saddr @open goto admit
    ip saddr . ip daddr @allowed goto admit
    goto refuse
  }
  chain to_sandbox {
    ct state established,related accept
    drop
  }
  chain input {
    type filter hook input priority ${PRIORITY}; policy accept;
    iifname "${bridge}" goto to_host
  }
  chain forward {
    type filter hook forward priority ${PRIORITY}; policy accept;
    iifname "${bridge}" oifname "${bridge}" drop
    iifname "${bridge}" goto to_world
    oifname "${bridge}" goto to_sandbox
  }
  chain names {
    type nat hook prerouting priority dstnat; policy accept;
    iifname "${bridge}" ip daddr ${gateway} udp dport 53 redirect to :${namePort}
  }
  chain outward {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr ${cidr} oifname != "${bridge}" masquerade
  }
}
`;
}

/** Elements of the sets; each adds, or removes, whether or not it is there. */
export const elements = {
  /** The sandbox's connections are its own from now on. */
  begin: (table: string, address: string, generation: number): string =>
    `add element inet ${table} generation { ${address} : ${generation} }
add element inet ${table} current { ${address} . ${generation} }
`,
  end: (table: string, address: string, generation: number): string =>
    replaced(table, 'generation', `${address} : ${generation}`) +
    replaced(table, 'current', `${address} . ${generation}`) +
    replaced(table, 'open', address),
  open: (table: string, address: string): string => `add element inet ${table} open { ${address} }
`,
  /** Undefined seconds are for ever. */
  allow: (table: string, address: string, destination: string, seconds: number | undefined): string => {
    const pair = `${address} . ${destination}`;
    const timeout = seconds === undefined ? '' : ` timeout ${seconds}s`;
    // The kernel does not change the time of an element that is there.
    return `${replaced(table, 'allowed', pair)}add element inet ${table} allowed { ${pair}${timeout} }
`;
  },
  forbid: (table: string, address: string, destination: string): string =>
    replaced(table, 'allowed', `${address} . ${destination}`),
};

/** Removing what is not there would fail, and with it the whole transaction; adding what is there does not. */
function replaced(table: string, set: string, element: string): string {
  return `add element inet ${table} ${set} { ${element} }
delete element inet ${table} ${set} { ${element} }
`;
}
