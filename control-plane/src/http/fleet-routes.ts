import type { Registry } from 'prom-client';
import type { ApiRoute } from './api-route.js';

/** A node as the API shows it. */
export interface NodeView {
  readonly id: string;
  readonly connected: boolean;
  /** Whether it is given new work. */
  readonly eligible: boolean;
  /** An operator took it out of service. */
  readonly cordoned: boolean;
  /** Its agent is being stopped. */
  readonly leaving: boolean;
  readonly labels: Readonly<Record<string, string>>;
  readonly isolation: readonly string[];
  readonly networks: readonly string[];
  readonly builds: boolean;
  readonly runtimes: readonly { readonly name: string; readonly digest: string }[];
  readonly architecture: string;
  readonly agentVersion: string;
  /** Null while it is not connected. */
  readonly capacity: {
    readonly memoryBytesTotal: number;
    readonly memoryBytesFree: number;
    readonly slotsTotal: number;
    readonly slotsFree: number;
  } | null;
  readonly sandboxes: { readonly idle: number; readonly busy: number; readonly blank: number; readonly leaked: number };
  readonly blanks: readonly {
    readonly runtime: string;
    readonly isolation: string;
    readonly network: string;
    readonly memoryMb: number;
    readonly count: number;
  }[];
  /** What its agent tried before it offered its isolation kinds; null when it did not say. */
  readonly selfTest: readonly object[] | null;
  /** The newest; null when there never was one. */
  readonly drain: object | null;
  readonly firstSeenAt: Date;
  readonly lastSeenAt: Date;
}

export interface Readiness {
  readonly ready: boolean;
  readonly leaving: boolean;
  readonly waitingFor: readonly ('database' | 'nodes')[];
}

export interface FleetRoutesOptions {
  readonly listNodes: (projectId: string) => Promise<readonly NodeView[]>;
  /** Answers within two seconds and never rejects. */
  readonly readiness: () => Promise<Readiness>;
  readonly registry: Registry;
}

/** Nodes, health and metrics. */
export function fleetRoutes({ listNodes, readiness, registry }: FleetRoutesOptions): readonly ApiRoute[] {
  return [
    {
      method: 'GET',
      path: '/api/nodes',
      policy: 'key',
      handle: async (c, { projectId }) => c.json({ nodes: await listNodes(projectId) }),
    },
    { method: 'GET', path: '/healthz', policy: 'open', handle: (c) => c.json({ healthy: true }) },
    {
      method: 'GET',
      path: '/readyz',
      policy: 'open',
      handle: async (c) => {
        const state = await readiness();
        return c.json(state, state.ready ? 200 : 503);
      },
    },
    {
      method: 'GET',
      path: '/metrics',
      policy: 'open',
      handle: async (c) => c.body(await registry.metrics(), 200, { 'content-type': registry.contentType }),
    },
  ];
}
