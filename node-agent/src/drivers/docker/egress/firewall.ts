import { type FirewallPlace, firewallRules } from './firewall-rules.js';
import type { NetworkNamespace } from './network-namespace.js';

interface Change {
  readonly commands: string;
  readonly resolve: () => void;
  readonly reject: (err: Error) => void;
}

/** Base chains, and how many rules each chain has, by which an installed table is recognised before it is remembered. */
const EXPECTED: Readonly<Record<string, { readonly hook?: string; readonly rules: number }>> = {
  refuse: { rules: 2 },
  admit: { rules: 2 },
  to_host: { rules: 2 },
  to_names: { rules: 2 },
  to_world: { rules: 10 },
  to_sandbox: { rules: 2 },
  input: { hook: 'input', rules: 1 },
  forward: { hook: 'forward', rules: 3 },
  names: { hook: 'prerouting', rules: 1 },
  outward: { hook: 'postrouting', rules: 1 },
};

/**
 * The nftables table of one egress network.
 *
 * Installation, verification and changes take turns; changes that wait together are one transaction. What `verify` compares with is what the kernel itself
 * showed right after the installation, because the same rules read differently in each release of nft.
 */
export class Firewall {
  #installed = '';
  readonly #waiting: Change[] = [];
  #turn: Promise<void> = Promise.resolve();

  constructor(
    private readonly namespace: NetworkNamespace,
    readonly place: FirewallPlace,
  ) {}

  /**
   * Replaces the table by a new one with these elements, which are asked for when it is the table's turn. Rejects when the
   * kernel does not show it afterwards.
   */
  install(elements: () => string): Promise<void> {
    return this.#inTurn(async () => {
      await this.#apply(firewallRules(this.place) + elements());
      const listing = await this.#list();
      checkShape(listing);
      this.#installed = fingerprint(listing);
    });
  }

  /** Rejects when anything but the elements of its changing sets is not as it was installed, or the bridge is gone. */
  verify(): Promise<void> {
    return this.#inTurn(async () => {
      if (!(await this.namespace.hasInterface(this.place.bridge))) throw new Error('its bridge is gone');
      if (fingerprint(await this.#list()) !== this.#installed) throw new Error('its rules were changed');
    });
  }

  /** Resolves when the kernel has taken the change. */
  change(commands: string): Promise<void> {
    const applied = new Promise<void>((resolve, reject) => {
      this.#waiting.push({ commands, resolve, reject });
    });
    // Whoever's turn comes first takes all that wait by then.
    void this.#inTurn(() => this.#applyWaiting());
    return applied;
  }

  remove(): Promise<void> {
    const { table } = this.place;
    return this.#inTurn(() => this.#apply(`add table inet ${table}\ndelete table inet ${table}\n`));
  }

  #inTurn(work: () => Promise<void>): Promise<void> {
    const done = this.#turn.then(work);
    this.#turn = done.catch(() => {});
    return done;
  }

  async #applyWaiting(): Promise<void> {
    const changes = this.#waiting.splice(0);
    if (changes.length === 0) return;
    try {
      await this.#apply(changes.map(({ commands }) => commands).join(''));
      for (const { resolve } of changes) resolve();
    } catch (err) {
      for (const { reject } of changes) reject(err as Error);
    }
  }

  async #apply(commands: string): Promise<void> {
    await this.namespace.run('nft', ['-f', '-'], commands);
  }

  async #list(): Promise<readonly ListedObject[]> {
    const text = await this.namespace.run('nft', ['-j', 'list', 'table', 'inet', this.place.table]);
    return (JSON.parse(text) as { readonly nftables: readonly ListedObject[] }).nftables;
  }
}

/** One of `table`, `chain`, `rule`, `set`, `map`, as nft writes it. */
interface ListedObject {
  readonly chain?: { readonly name: string; readonly hook?: string };
  readonly rule?: { readonly chain: string };
  readonly set?: { readonly name: string; readonly elem?: unknown };
  readonly map?: { readonly name: string; readonly elem?: unknown };
}

function checkShape(listing: readonly ListedObject[]): void {
  for (const [name, { hook, rules }] of Object.entries(EXPECTED)) {
    const chain = listing.find((object) => object.chain?.name === name)?.chain;
    const count = listing.filter((object) => object.rule?.chain === name).length;
    if (chain === undefined || chain.hook !== hook || count !== rules) {
      throw new Error(`the kernel shows the chain ${name} otherwise than it was made`);
    }
  }
  const blocked = listing.find((object) => object.set?.name === 'blocked')?.set?.elem;
  if (!Array.isArray(blocked) || blocked.length === 0) throw new Error('the kernel shows no blocked addresses');
}

/** What must not change: not the numbers that the kernel gives, and not the elements of sets that change by themselves. */
function fingerprint(listing: readonly ListedObject[]): string {
  const kept = listing
    .filter((object) => !('metainfo' in object))
    .map((object) => {
      const set = object.set ?? object.map;
      return set === undefined || set.name === 'blocked' ? object : { ...set, elem: [] };
    });
  return JSON.stringify(kept, (key, value) => (key === 'handle' ? undefined : value));
}
