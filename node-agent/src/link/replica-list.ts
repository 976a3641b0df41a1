import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import type { ChannelOptions } from '@grpc/grpc-js';
import { withDeadline } from '@lambda-fleet/common/deadline';
import { errorText } from '@lambda-fleet/common/errors';
import type { Logger } from '@lambda-fleet/common/logger';

/** Where a replica of the control plane is dialled. */
export interface Replica {
  /** `host:port`. */
  readonly address: string;
  /** Whom its certificate has to name, where that is not the address's own host. */
  readonly serverName: string | undefined;
}

/** One of several addresses of a name: its certificate is that of the name. */
export function namedAs({ serverName }: Replica): ChannelOptions {
  if (serverName === undefined) return {};
  return { 'grpc.ssl_target_name_override': serverName, 'grpc.default_authority': serverName };
}

/** All addresses of a host, of both families. */
export type Resolve = (host: string) => Promise<readonly string[]>;

export interface ReplicaListOptions {
  /** `host:port` each. */
  readonly configured: readonly string[];
  /** Called when the list may have changed. */
  readonly onChange: () => void;
  readonly resolve?: Resolve;
  readonly log: Logger;
}

/** More replicas than this are not dialled: each holds two connections of every agent. */
export const REPLICAS_MAX = 16;

/** Replicas come and go under one name. */
const RESOLVE_EVERY_MS = 30_000;
const RESOLVE_DEADLINE_MS = 2_000;

const ADDRESS = /^(?:\[(?<six>[0-9a-fA-F:.]{2,45})\]|(?<host>[A-Za-z0-9._-]{1,253})):(?<port>\d{1,5})$/;

/** `host:port`, the host of an IPv6 address in brackets; undefined when it is none. */
export function parseAddress(address: string): { readonly host: string; readonly port: number } | undefined {
  const { six, host = six, port } = ADDRESS.exec(address)?.groups ?? {};
  const number = Number(port);
  return host === undefined || !(number >= 1 && number <= 65_535) ? undefined : { host, port: number };
}

/**
 * Which replicas of the control plane there are: those that were configured, those that a name of them stands for, and those that
 * replicas announce of each other. A name that cannot be resolved now stands for what it stood for last.
 */
export class ReplicaList {
  readonly #resolved = new Map<string, readonly string[]>();
  /** By who announced them. */
  readonly #announced = new Map<object, readonly string[]>();
  #timer: NodeJS.Timeout | undefined;

  constructor(private readonly options: ReplicaListOptions) {}

  /** Resolves names now and from now on. */
  async start(): Promise<void> {
    this.#timer = setInterval(() => void this.#resolveNames(), RESOLVE_EVERY_MS).unref();
    await this.#resolveNames();
  }

  close(): void {
    clearInterval(this.#timer);
  }

  /** What a replica said of all replicas, instead of what it said before. */
  announce(by: object, peers: readonly string[]): void {
    const known = peers.slice(0, REPLICAS_MAX).filter((peer) => parseAddress(peer) !== undefined);
    this.#announced.set(by, known);
    void this.#resolveNames();
  }

  /** Nothing is known from this replica any more. */
  forget(by: object): void {
    this.#announced.delete(by);
  }

  /** At most {@link REPLICAS_MAX}, those that were configured first. */
  current(): readonly Replica[] {
    const replicas = new Map<string, Replica>();
    for (const address of this.#addresses()) {
      for (const replica of this.#replicasOf(address)) {
        if (replicas.size < REPLICAS_MAX && !replicas.has(replica.address)) replicas.set(replica.address, replica);
      }
    }
    return [...replicas.values()];
  }

  #addresses(): Set<string> {
    return new Set([...this.options.configured, ...[...this.#announced.values()].flat()]);
  }

  #replicasOf(address: string): readonly Replica[] {
    const { host, port } = parseAddress(address) ?? {};
    if (host === undefined) return [];
    const addresses = this.#resolved.get(host) ?? [];
    const four = addresses.filter((ip) => isIP(ip) === 4);
    const six = addresses.filter((ip) => isIP(ip) === 6);
    // One machine, perhaps under both families: whoever dials finds the one that answers.
    if (four.length <= 1 && six.length <= 1) return [{ address, serverName: undefined }];
    const each = four.length >= six.length ? four : six.map((ip) => `[${ip}]`);
    return each.map((ip) => ({ address: `${ip}:${port}`, serverName: host }));
  }

  async #resolveNames(): Promise<void> {
    const hosts = new Set([...this.#addresses()].flatMap((address) => parseAddress(address)?.host ?? []));
    for (const host of this.#resolved.keys()) if (!hosts.has(host)) this.#resolved.delete(host);
    await Promise.all([...hosts].filter((host) => isIP(host) === 0).map((host) => this.#resolve(host)));
    this.options.onChange();
  }

  async #resolve(host: string): Promise<void> {
    const { resolve = lookUp, log } = this.options;
    try {
      const addresses = await withDeadline(`resolving ${host}`, RESOLVE_DEADLINE_MS, resolve(host));
      this.#resolved.set(host, [...addresses].sort());
    } catch (err) {
      log.debug({ host, reason: errorText(err) }, 'replica_name_not_resolved');
    }
  }
}

async function lookUp(host: string): Promise<readonly string[]> {
  return (await lookup(host, { all: true })).map(({ address }) => address);
}
