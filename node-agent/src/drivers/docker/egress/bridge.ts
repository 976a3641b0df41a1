import type { NetworkInspectInfo } from 'dockerode';
import { OWNER_LABEL } from '../container-labels.js';
import { type EngineClient, SubnetTaken } from '../engine-client.js';
import { overlaps, SUBNETS, type Subnet, subnetOf } from './address-pool.js';
import { NetworkNamespace } from './network-namespace.js';

export interface BridgeOptions {
  readonly engine: EngineClient;
  readonly owner: string;
  /** Of the engine's network and of the bridge; at most 15 characters. */
  readonly name: string;
  /** Where to begin to look for a free subnet. */
  readonly firstSubnet: number;
}

export interface Bridge {
  readonly subnet: Subnet;
  /** Where the engine made it. */
  readonly namespace: NetworkNamespace;
}

/** Of subnets that other networks of the engine, or routes of the machine, may overlap. */
const TRIES = 16;

/**
 * The engine's network of this name and owner, as an earlier agent left it or new, in a subnet that nobody else on the
 * machine uses. Rejects with the reason when it cannot be had or could not be guarded; what was made then is removed.
 */
export async function openBridge(options: BridgeOptions): Promise<Bridge> {
  const { engine, owner, name, firstSubnet } = options;
  const left = await engine.inspectNetwork(name);
  if (left !== undefined) {
    const subnet = subnetOfLeft(left, owner);
    if (subnet !== undefined) return { subnet, namespace: await namespaceOf(name) };
    await engine.removeNetwork(name);
  }
  for (let attempt = 0; attempt < TRIES; attempt += 1) {
    const subnet = subnetOf(firstSubnet + attempt);
    try {
      await engine.createNetwork(networkSpec(name, owner, subnet));
    } catch (err) {
      if (err instanceof SubnetTaken) continue;
      throw err;
    }
    try {
      const namespace = await namespaceOf(name);
      if (!(await hasRouteInto(namespace, name, subnet))) return { subnet, namespace };
      await namespace.close();
    } catch (err) {
      await engine.removeNetwork(name);
      throw err;
    }
    await engine.removeNetwork(name);
  }
  throw new Error(`no free subnet was found between ${subnetOf(0).cidr} and ${subnetOf(SUBNETS - 1).cidr}`);
}

function networkSpec(name: string, owner: string, { cidr, gateway }: Subnet) {
  return {
    Name: name,
    Driver: 'bridge',
    CheckDuplicate: true,
    EnableIPv6: false,
    Attachable: false,
    IPAM: { Driver: 'default', Config: [{ Subnet: cidr, Gateway: gateway }] },
    Options: {
      'com.docker.network.bridge.name': name,
      'com.docker.network.bridge.enable_icc': 'false',
      // The firewall of this network does it, also where the engine makes no rules.
      'com.docker.network.bridge.enable_ip_masquerade': 'false',
    },
    Labels: { [OWNER_LABEL]: owner },
  };
}

/** Undefined when it is not as this agent would make it. */
function subnetOfLeft({ Labels, EnableIPv6, Options, IPAM }: NetworkInspectInfo, owner: string): Subnet | undefined {
  const wanted = networkSpec('', owner, subnetOf(0)).Options;
  const options = Object.entries(wanted).filter(([, value]) => value !== '');
  if (Labels?.[OWNER_LABEL] !== owner || EnableIPv6 || options.some(([key, value]) => Options?.[key] !== value))
    return undefined;
  const cidr = IPAM?.Config?.[0]?.Subnet;
  return Array.from({ length: SUBNETS }, (_, index) => subnetOf(index)).find((subnet) => subnet.cidr === cidr);
}

async function namespaceOf(bridge: string): Promise<NetworkNamespace> {
  const namespace = await NetworkNamespace.withInterface(bridge);
  if (namespace === undefined) {
    throw new Error(
      `the bridge ${bridge} that the engine made is not to be found on this machine (are ip and nsenter installed?)`,
    );
  }
  const forwards = await namespace.run('cat', ['/proc/sys/net/ipv4/ip_forward']);
  if (forwards.trim() === '1') return namespace;
  await namespace.close();
  throw new Error('this machine forwards nothing; switch it on with `sysctl -w net.ipv4.ip_forward=1`');
}

/** Whether packets for the subnet would go elsewhere, or come from there: it is somebody else's too. */
async function hasRouteInto(namespace: NetworkNamespace, bridge: string, { cidr }: Subnet): Promise<boolean> {
  const routes = JSON.parse(await namespace.run('ip', ['-4', '-j', 'route', 'show'])) as readonly {
    readonly dst: string;
    readonly dev?: string;
  }[];
  return routes.some(({ dst, dev }) => dst !== 'default' && dev !== bridge && overlaps(dst, cidr));
}
