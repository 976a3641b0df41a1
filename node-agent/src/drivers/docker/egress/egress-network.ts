import { createHash } from 'node:crypto';
import type { Socket } from 'node:dgram';
import type { Logger } from '@lambda-fleet/common/logger';
import type { EngineClient } from '../engine-client.js';
import { AddressPool } from './address-pool.js';
import { openBridge } from './bridge.js';
import { isolatePorts } from './bridge-ports.js';
import { EgressPlace } from './egress-place.js';
import { EgressSandbox } from './egress-sandbox.js';
import { Firewall } from './firewall.js';
import { NameServer } from './name-server.js';
import type { NetworkNamespace } from './network-namespace.js';
import { UpstreamNames } from './upstream-names.js';

export interface EgressNetworkOptions {
  readonly engine: EngineClient;
  /** See {@link ownerOf}. */
  readonly owner: string;
  /** Where names are asked for, `address` or `address:port`; undefined are the machine's own name servers. */
  readonly nameServers?: readonly string[] | undefined;
  readonly log: Logger;
  /** Between two looks at the firewall. Default 5 s. */
  readonly verifyIntervalMs?: number | undefined;
}

const BROKEN = 'the firewall of the egress network of this node is not as it has to be';
const DEFAULT_VERIFY_INTERVAL_MS = 5_000;

/**
 * The network of this agent's sandboxes that may reach public addresses: a bridge of the engine, a firewall around it, and
 * a name server.
 *
 * States: working ⇄ broken → closed. It is verified before each sandbox and every few seconds. Rules that somebody changed
 * are put back; when they cannot be, it is broken: no sandbox is taken, and those that there are have to be ended by whoever
 * listens. It works again when a later look finds everything as it has to be.
 */
export class EgressNetwork {
  #state: 'working' | 'broken' | 'closed' = 'working';
  readonly #sandboxes = new Map<string, EgressSandbox>();
  readonly #names: NameServer;
  readonly #addresses: AddressPool;
  readonly #listeners: (() => void)[] = [];
  readonly #timer: NodeJS.Timeout;
  #generations = 0;
  #looking: Promise<void> | undefined;

  private constructor(
    private readonly options: EgressNetworkOptions,
    private readonly namespace: NetworkNamespace,
    private readonly firewall: Firewall,
    socket: Socket,
  ) {
    const sandboxAt = (address: string) => this.#sandboxes.get(address);
    const upstream = new UpstreamNames(options.nameServers);
    this.#names = new NameServer({ socket, sandboxAt, upstream, log: options.log });
    this.#addresses = new AddressPool(firewall.place.subnet);
    const { verifyIntervalMs = DEFAULT_VERIFY_INTERVAL_MS } = options;
    this.#timer = setInterval(() => void this.look(), verifyIntervalMs);
    this.#timer.unref();
  }

  /** Makes the network. Rejects with the reason, for people, why it cannot be had; then nothing is left of it. */
  static async open(options: EgressNetworkOptions): Promise<EgressNetwork> {
    const { engine, owner } = options;
    if (process.platform !== 'linux' || process.getuid?.() !== 0) throw new Error('only root on Linux can guard it');
    const name = `lambda-${owner.slice(0, 8)}`;
    const first = createHash('sha256').update(owner).digest().readUInt16BE(0);
    const { namespace, subnet } = await openBridge({ engine, owner, name, firstSubnet: first });
    let firewall: Firewall | undefined;
    let socket: Socket | undefined;
    try {
      socket = await namespace.bindUdp(subnet.gateway, 0);
      const table = name.replace('-', '_');
      firewall = new Firewall(namespace, { table, bridge: name, subnet, namePort: socket.address().port });
      await firewall.install(() => '');
      await firewall.verify();
      return new EgressNetwork(options, namespace, firewall, socket);
    } catch (err) {
      socket?.close();
      await engine.removeNetwork(name).catch(() => {});
      await firewall?.remove().catch(() => {});
      await namespace.close();
      throw err;
    }
  }

  get name(): string {
    return this.firewall.place.bridge;
  }

  get subnet(): string {
    return this.firewall.place.subnet.cidr;
  }

  get working(): boolean {
    return this.#state === 'working';
  }

  /** Called when it breaks, and when it works again. */
  onChange(listener: () => void): void {
    this.#listeners.push(listener);
  }

  /** A place for one sandbox, which reaches nothing. Throws when there is none. */
  take(): EgressPlace {
    if (this.#state !== 'working') throw new Error(BROKEN);
    const address = this.#addresses.take();
    if (address === undefined) throw new Error('all addresses of the egress network of this node are in use');
    this.#generations += 1;
    const sandbox = new EgressSandbox(this.firewall, address, this.#generations);
    this.#sandboxes.set(address, sandbox);
    const { firewall, namespace } = this;
    const guard = async () => {
      await this.look();
      if (!this.working) throw new Error(BROKEN);
    };
    return new EgressPlace({ sandbox, firewall, namespace, guard, leave: () => this.#leave(sandbox) });
  }

  /** One look at the firewall. Never rejects. */
  look(): Promise<void> {
    this.#looking ??= this.#look().finally(() => {
      this.#looking = undefined;
    });
    return this.#looking;
  }

  /** To be called when no container is attached any more; else the firewall stays. Never rejects. */
  async close(): Promise<void> {
    if (this.#state === 'closed') return;
    this.#state = 'closed';
    clearInterval(this.#timer);
    await this.#looking;
    this.#names.close();
    try {
      // Containers that are still attached keep it from going, and must not lose the firewall.
      await this.options.engine.removeNetwork(this.name);
      await this.firewall.remove();
    } catch (err) {
      this.options.log.error({ err, network: this.name }, 'egress_network_not_removed');
    }
    await this.namespace.close();
  }

  async #leave(sandbox: EgressSandbox): Promise<void> {
    try {
      await sandbox.end();
    } catch (err) {
      // Its address stays taken; the next table does not know it any more.
      this.options.log.error({ err, address: sandbox.address }, 'egress_sandbox_not_forgotten');
      return;
    } finally {
      this.#sandboxes.delete(sandbox.address);
    }
    this.#addresses.giveBack(sandbox.address);
  }

  async #look(): Promise<void> {
    const { log } = this.options;
    try {
      await this.firewall.verify();
      await this.#isolatePorts();
      this.#enter('working');
      return;
    } catch (err) {
      log.error({ err, network: this.name }, 'egress_firewall_not_right');
    }
    try {
      await this.firewall.install(() => [...this.#sandboxes.values()].map((sandbox) => sandbox.elements()).join(''));
      await this.firewall.verify();
      await this.#isolatePorts();
      log.warn({ network: this.name }, 'egress_firewall_restored');
      this.#enter('working');
    } catch (err) {
      log.error({ err, network: this.name }, 'egress_network_broken');
      this.#enter('broken');
    }
  }

  async #isolatePorts(): Promise<void> {
    await isolatePorts(this.namespace, await this.namespace.links('master', this.name));
  }

  #enter(state: 'working' | 'broken'): void {
    if (this.#state === state || this.#state === 'closed') return;
    this.#state = state;
    for (const listener of this.#listeners) listener();
  }
}
