import { Resolver } from 'node:dns/promises';

export interface FoundAddresses {
  readonly addresses: readonly string[];
  /** Seconds for which all of them are good. */
  readonly ttl: number;
}

/** `nowhere`: there is no such name. `nothing`: there is, without such records. `failed`: nobody could be asked. */
export type LookupFailure = 'nowhere' | 'nothing' | 'failed';

/** Types that are passed on for functions without a list, beside addresses. */
export const OTHER_TYPES = ['CNAME', 'MX', 'NS', 'SRV', 'TXT'] as const;
export type OtherType = (typeof OTHER_TYPES)[number];

const TIMEOUT_MS = 2_000;
const TRIES = 2;
/** The machine's own settings may change. */
const RESOLVER_LIFE_MS = 30_000;

/**
 * Asks the name servers of this machine, over this process's own sockets: of what a sandbox sends nothing goes out but the
 * name it asks for.
 */
export class UpstreamNames {
  #resolver: Resolver | undefined;
  #madeAt = 0;

  constructor(
    /** `address` or `address:port`; undefined are the machine's own. */
    private readonly servers: readonly string[] | undefined,
  ) {}

  async addressesOf(name: string): Promise<FoundAddresses | LookupFailure> {
    try {
      const records = await this.#current().resolve4(name, { ttl: true });
      return { addresses: records.map(({ address }) => address), ttl: Math.min(...records.map(({ ttl }) => ttl)) };
    } catch (err) {
      return failureOf(err);
    }
  }

  async recordsOf(name: string, type: OtherType): Promise<readonly unknown[] | LookupFailure> {
    try {
      return (await this.#current().resolve(name, type)) as readonly unknown[];
    } catch (err) {
      return failureOf(err);
    }
  }

  close(): void {
    this.#resolver?.cancel();
  }

  #current(): Resolver {
    const now = performance.now();
    if (this.#resolver === undefined || now - this.#madeAt > RESOLVER_LIFE_MS) {
      this.#resolver = new Resolver({ timeout: TIMEOUT_MS, tries: TRIES });
      if (this.servers !== undefined) this.#resolver.setServers(this.servers);
      this.#madeAt = now;
    }
    return this.#resolver;
  }
}

function failureOf(err: unknown): LookupFailure {
  const code = err instanceof Error && 'code' in err ? err.code : undefined;
  if (code === 'ENOTFOUND') return 'nowhere';
  return code === 'ENODATA' ? 'nothing' : 'failed';
}
