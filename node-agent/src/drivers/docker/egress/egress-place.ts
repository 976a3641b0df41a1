import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { isolatePorts } from './bridge-ports.js';
import type { EgressSandbox } from './egress-sandbox.js';
import type { Firewall } from './firewall.js';
import { NetworkNamespace } from './network-namespace.js';

/** How a container is attached to an egress network. */
export interface EgressAttachment {
  readonly network: string;
  readonly address: string;
  readonly nameServer: string;
  /** Path on the host of its `/etc/resolv.conf`. */
  readonly resolvConf: string;
}

export interface EgressPlaceOptions {
  readonly sandbox: EgressSandbox;
  readonly firewall: Firewall;
  /** Looks at the firewall, and rejects when it is not as it has to be. */
  readonly guard: () => Promise<void>;
  /** Where the bridge is. */
  readonly namespace: NetworkNamespace;
  readonly leave: (sandbox: EgressSandbox) => Promise<void>;
}

/** The place of one sandbox in an egress network, from before its container is made until after it is removed. */
export class EgressPlace {
  #leaving: Promise<void> | undefined;

  constructor(private readonly options: EgressPlaceOptions) {}

  /** What its container is made with. `directory` is the sandbox's own, on the host. */
  async prepare(directory: string): Promise<EgressAttachment> {
    const { sandbox, firewall } = this.options;
    const { bridge, subnet } = firewall.place;
    const resolvConf = join(directory, 'resolv.conf');
    await writeFile(resolvConf, `nameserver ${subnet.gateway}\noptions timeout:3 attempts:2\n`, { mode: 0o644 });
    return { network: bridge, address: sandbox.address, nameServer: subnet.gateway, resolvConf };
  }

  /**
   * To be called when its container runs and no code of a function does: makes sure that it is behind the firewall, and that
   * its port of the bridge passes nothing to other ports. `pid` is of a process in it. Rejects when it is not so.
   */
  async secure(pid: number): Promise<void> {
    const { firewall, namespace, guard } = this.options;
    await guard();
    const { bridge } = firewall.place;
    const inside = await NetworkNamespace.ofProcess(pid);
    const [pair] = await inside.links('type', 'veth').finally(() => inside.close());
    const port = (await namespace.links('master', bridge)).find(({ ifindex }) => ifindex === pair?.link_index);
    if (port === undefined) throw new Error(`its network is not attached to the bridge ${bridge}`);
    await isolatePorts(namespace, [port]);
  }

  /** Empty is every public address. */
  setHosts(hosts: readonly string[]): Promise<void> {
    return this.options.sandbox.setHosts(hosts);
  }

  /** Its container is gone. Never rejects. */
  leave(): Promise<void> {
    this.#leaving ??= this.options.leave(this.options.sandbox);
    return this.#leaving;
  }
}
