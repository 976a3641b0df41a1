import { isIPv4 } from 'node:net';
import type { Firewall } from './firewall.js';
import { elements } from './firewall-rules.js';
import { isPublicAddress } from './public-address.js';

/** Of one sandbox at the same time; the longest known goes first. A name server that always answers otherwise fills no table. */
const ALLOWED_MAX = 256;

type Reach =
  /** Nothing: its function is not known yet, or it is gone. */
  | { readonly kind: 'nothing' }
  | { readonly kind: 'everything public' }
  | { readonly kind: 'hosts'; readonly names: ReadonlySet<string> };

/**
 * What one sandbox of an egress network may reach: nothing → everything public | the hosts of a list → nothing.
 *
 * The names of a list turn into addresses only when the sandbox asks for them: what the name server found, and is public, is
 * allowed for a while, from before the answer is sent.
 */
export class EgressSandbox {
  #reach: Reach = { kind: 'nothing' };
  /** Destinations that are allowed, with the time (`performance.now()`) until which; undefined is for ever. */
  readonly #allowed = new Map<string, number | undefined>();

  constructor(
    private readonly firewall: Firewall,
    readonly address: string,
    /** Marks its connections; unique over the network's life. */
    private readonly generation: number,
  ) {}

  get reach(): Reach {
    return this.#reach;
  }

  /** Whether it may ask for the addresses of a name, in lower case and without a dot at its end. */
  mayAsk(name: string): boolean {
    return this.#reach.kind === 'everything public' || (this.#reach.kind === 'hosts' && this.#reach.names.has(name));
  }

  /** Empty is everything public. Resolves when the kernel knows. */
  async setHosts(hosts: readonly string[]): Promise<void> {
    const { table } = this.firewall.place;
    const before = this.#commandsToForget();
    this.#allowed.clear();
    this.#reach = hosts.length === 0 ? { kind: 'everything public' } : { kind: 'hosts', names: new Set(hosts) };
    // Addresses in the list are there to stay.
    for (const host of hosts) if (isIPv4(host) && isPublicAddress(host)) this.#allowed.set(host, undefined);
    await this.firewall.change(before + elements.begin(table, this.address, this.generation) + this.#commandsToReach());
  }

  /**
   * Lets it reach these public addresses for at least so long. Resolves when the kernel knows, or at once when it does
   * already.
   */
  async allow(destinations: readonly string[], seconds: number): Promise<void> {
    if (this.#reach.kind !== 'hosts') return;
    const { table } = this.firewall.place;
    const now = performance.now();
    const until = now + seconds * 1_000;
    let commands = '';
    for (const destination of destinations) {
      if (!isPublicAddress(destination)) throw new Error(`${destination} is not public`);
      const known = this.#allowed.get(destination);
      if (this.#allowed.has(destination) && (known === undefined || known >= until)) continue;
      // Twice as long, so that not every question of a busy function changes the firewall.
      this.#allowed.delete(destination);
      this.#allowed.set(destination, now + 2 * seconds * 1_000);
      commands += elements.allow(table, this.address, destination, 2 * seconds);
    }
    for (const destination of this.#allowed.keys()) {
      if (this.#allowed.size <= ALLOWED_MAX) break;
      this.#allowed.delete(destination);
      commands += elements.forbid(table, this.address, destination);
    }
    if (commands !== '') await this.firewall.change(commands);
  }

  /** It is gone. Resolves when the kernel has forgotten it; then its address can be another's. */
  async end(): Promise<void> {
    const commands = this.#commandsToForget();
    this.#reach = { kind: 'nothing' };
    this.#allowed.clear();
    if (commands !== '') await this.firewall.change(commands);
  }

  /** What a new table has to know of it. */
  elements(): string {
    if (this.#reach.kind === 'nothing') return '';
    const { table } = this.firewall.place;
    return elements.begin(table, this.address, this.generation) + this.#commandsToReach();
  }

  #commandsToReach(): string {
    const { table } = this.firewall.place;
    if (this.#reach.kind === 'everything public') return elements.open(table, this.address);
    const now = performance.now();
    let commands = '';
    for (const [destination, until] of this.#allowed) {
      const seconds = until === undefined ? undefined : Math.floor((until - now) / 1_000);
      if (seconds !== undefined && seconds <= 0) continue;
      commands += elements.allow(table, this.address, destination, seconds);
    }
    return commands;
  }

  #commandsToForget(): string {
    if (this.#reach.kind === 'nothing') return '';
    const { table } = this.firewall.place;
    const forbidden = [...this.#allowed.keys()].map((each) => elements.forbid(table, this.address, each));
    return elements.end(table, this.address, this.generation) + forbidden.join('');
  }
}
