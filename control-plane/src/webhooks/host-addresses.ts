import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';

/** All addresses of a name, as `dns.lookup` gives them. */
export type ResolveName = (host: string) => Promise<readonly string[]>;

/**
 * A question to the system's resolver holds one of the four threads that reading files needs too, for as long as somebody's
 * name server likes. So few are asked at once, and the others wait.
 */
const LOOKUPS_MAX = 2;

/** Tells the addresses of hosts, within somebody's time. */
export class HostAddresses {
  #asking = 0;
  readonly #waiting = new Set<() => void>();

  constructor(private readonly resolve: ResolveName = resolveWithSystem) {}

  /**
   * @param host as in `URL.hostname`: a name, an IPv4 address or an IPv6 address in brackets
   * @throws Error when there are none, or `signal` ends the waiting
   */
  async of(host: string, signal: AbortSignal): Promise<readonly string[]> {
    const plain = host.replace(/^\[|\]$/g, '');
    if (isIP(plain) !== 0) return [plain];
    await this.#turn(signal);
    const asked = this.resolve(plain).finally(() => this.#answered());
    const addresses = await untilAborted(asked, signal);
    if (addresses.length === 0) throw new Error(`${plain} has no address`);
    return addresses;
  }

  #answered(): void {
    this.#asking -= 1;
    // All of them: one whose time is up at this moment would take the turn with it.
    for (const wake of this.#waiting) wake();
  }

  async #turn(signal: AbortSignal): Promise<void> {
    while (this.#asking >= LOOKUPS_MAX) {
      let wake = (): void => undefined;
      const woken = new Promise<void>((resolve) => {
        wake = resolve;
      });
      this.#waiting.add(wake);
      await untilAborted(woken, signal).finally(() => this.#waiting.delete(wake));
    }
    // Here and not by the caller: between this check and its next line others may have come.
    this.#asking += 1;
  }
}

async function resolveWithSystem(host: string): Promise<readonly string[]> {
  return (await lookup(host, { all: true })).map(({ address }) => address);
}

/** What cannot be cancelled is left to end by itself. */
function untilAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(signal.reason as Error);
    if (signal.aborted) onAbort();
    signal.addEventListener('abort', onAbort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}
