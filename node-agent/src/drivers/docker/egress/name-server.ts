import type { RemoteInfo, Socket } from 'node:dgram';
import type { Logger } from '@lambda-fleet/common/logger';
import type { EgressSandbox } from './egress-sandbox.js';
import { addressAnswers, type NameQuery, otherAnswers, RCODE, readQuery, writeAnswer } from './name-answers.js';
import { isPublicAddress } from './public-address.js';
import { type LookupFailure, OTHER_TYPES, type UpstreamNames } from './upstream-names.js';

export interface NameServerOptions {
  /** Bound where sandboxes can reach it. */
  readonly socket: Socket;
  /** The sandbox with this address. */
  readonly sandboxAt: (address: string) => EgressSandbox | undefined;
  readonly upstream: UpstreamNames;
  readonly log: Logger;
}

/** Questions that are being answered: more of one sandbox, or of all, are dropped, and asked again by its resolver. */
const PENDING_MAX = 32;
const PENDING_TOTAL_MAX = 512;
const ADDRESSES_MAX = 16;
/** Seconds that an address stays good for a sandbox at least, and that an answer claims at most. */
const ALLOWED_MIN_S = 60;
const TTL_MAX_S = 3_600;
/** Names that are nobody's; the first tells a trial that the way to this server is open. */
const NOWHERE = /(^|\.)(invalid|localhost)$/;

/**
 * The only name server that sandboxes of an egress network reach. Who asks is told by the source address, which the
 * firewall and the sandbox's lack of privileges make true.
 *
 * Of answers only public addresses are passed on. A sandbox with a list of hosts gets addresses of these names and nothing
 * else of the world's names: no question of it for another name, or for another kind of record, leaves this machine,
 * because a question can carry data. What it is told it may reach, from before it is told.
 */
export class NameServer {
  readonly #pending = new Map<EgressSandbox, number>();
  #pendingTotal = 0;
  #closed = false;

  constructor(private readonly options: NameServerOptions) {
    const { socket, log } = options;
    socket.on('message', (datagram, from) => void this.#receive(datagram, from));
    socket.on('error', (err) => log.error({ err }, 'name_server_failed'));
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.options.upstream.close();
    this.options.socket.close();
  }

  async #receive(datagram: Buffer, from: RemoteInfo): Promise<void> {
    const sandbox = this.options.sandboxAt(from.address);
    if (sandbox === undefined || this.#isBusy(sandbox)) return;
    const query = readQuery(datagram);
    if (query === undefined) return;
    this.#count(sandbox, 1);
    let answer: Buffer;
    try {
      answer = await this.#answer(query, sandbox);
    } catch (err) {
      this.options.log.warn({ err, address: from.address }, 'name_not_answered');
      answer = writeAnswer(query, RCODE.serverFailure);
    } finally {
      this.#count(sandbox, -1);
    }
    // A sandbox that is gone meanwhile misses nothing.
    if (!this.#closed) this.options.socket.send(answer, from.port, from.address, () => {});
  }

  async #answer(query: NameQuery, sandbox: EgressSandbox): Promise<Buffer> {
    const { name, type } = query;
    if (sandbox.reach.kind === 'nothing') return writeAnswer(query, RCODE.refused);
    if (!sandbox.mayAsk(name) || NOWHERE.test(name)) return writeAnswer(query, RCODE.noSuchName);
    if (type === 'A') return await this.#answerAddresses(query, sandbox);
    const other = OTHER_TYPES.find((each) => each === type);
    if (sandbox.reach.kind === 'hosts' || other === undefined) return writeAnswer(query, RCODE.noError);
    const records = await this.options.upstream.recordsOf(name, other);
    if (typeof records === 'string') return writeAnswer(query, rcodeOf(records));
    return writeAnswer(query, RCODE.noError, otherAnswers(query, other, records));
  }

  async #answerAddresses(query: NameQuery, sandbox: EgressSandbox): Promise<Buffer> {
    const found = await this.options.upstream.addressesOf(query.name);
    if (typeof found === 'string') return writeAnswer(query, rcodeOf(found));
    const addresses = found.addresses.filter(isPublicAddress).slice(0, ADDRESSES_MAX);
    const ttl = Math.min(TTL_MAX_S, found.ttl);
    // Its list may have changed while the question was under way.
    if (!sandbox.mayAsk(query.name)) return writeAnswer(query, RCODE.noSuchName);
    await sandbox.allow(addresses, Math.max(ALLOWED_MIN_S, ttl));
    return writeAnswer(query, RCODE.noError, addressAnswers(query, addresses, ttl));
  }

  #isBusy(sandbox: EgressSandbox): boolean {
    return this.#pendingTotal >= PENDING_TOTAL_MAX || (this.#pending.get(sandbox) ?? 0) >= PENDING_MAX;
  }

  #count(sandbox: EgressSandbox, change: 1 | -1): void {
    this.#pendingTotal += change;
    const pending = (this.#pending.get(sandbox) ?? 0) + change;
    if (pending > 0) this.#pending.set(sandbox, pending);
    else this.#pending.delete(sandbox);
  }
}

function rcodeOf(failure: LookupFailure) {
  return { nowhere: RCODE.noSuchName, nothing: RCODE.noError, failed: RCODE.serverFailure }[failure];
}
