import { type ApiClient, segment } from './client.js';

/** What the API says of a node, as far as this command reads it. */
export interface NodeResource {
  readonly id: string;
  readonly connected: boolean;
  /** It is given new work. */
  readonly eligible: boolean;
  /** An operator took it out of service. */
  readonly cordoned: boolean;
  readonly leaving: boolean;
  readonly labels: Readonly<Record<string, string>>;
  readonly isolation: readonly string[];
  readonly networks: readonly string[];
  readonly runtimes: readonly { readonly name: string }[];
  readonly architecture: string;
  readonly agentVersion: string;
  readonly capacity: {
    readonly memoryBytesTotal: number;
    readonly memoryBytesFree: number;
    readonly slotsTotal: number;
    readonly slotsFree: number;
  } | null;
  readonly sandboxes: { readonly idle: number; readonly busy: number; readonly blank: number; readonly leaked: number };
  readonly selfTest:
    | readonly {
        readonly isolation: string;
        readonly check: string;
        readonly passed: boolean;
        readonly detail: string;
      }[]
    | null;
  readonly drain: DrainResource | null;
  readonly lastSeenAt: string;
  /** Absent in lists. */
  readonly events?: readonly NodeEventResource[];
}

export interface DrainResource {
  readonly id: string;
  readonly state: string;
  readonly startedAt: string;
  readonly deadlineAt: string | null;
  readonly endedAt: string | null;
  readonly message: string | null;
  readonly result: { readonly deadlineReached: boolean; readonly killed: number; readonly requeued: number };
  readonly progress: { readonly inFlight: number; readonly sandboxes: number; readonly inFlightMs: number } | null;
}

export interface NodeEventResource {
  readonly at: string;
  readonly kind: string;
  readonly detail: Readonly<Record<string, unknown>>;
}

export interface DrainPlan {
  readonly node: string;
  readonly connected: boolean;
  readonly inFlight: number;
  readonly etaMs: number;
  readonly idle: number;
  readonly blanks: number;
  readonly floors: readonly {
    readonly functionName: string;
    readonly sandboxes: number;
    readonly to: readonly { readonly node: string; readonly sandboxes: number }[];
  }[];
  readonly reasons: readonly { readonly message: string; readonly override: string }[];
}

export interface DrainAsked {
  readonly deadlineMs: number | null;
  readonly force: boolean;
  readonly message: string | null;
  readonly minEligible: number;
  readonly alongside: readonly string[];
}

/** The part of the HTTP API that is about nodes. */
export class NodesApi {
  constructor(private readonly client: ApiClient) {}

  async list(): Promise<readonly NodeResource[]> {
    const answer = (await this.client.json({ method: 'GET', path: '/api/nodes' })) as { nodes?: unknown } | undefined;
    if (!Array.isArray(answer?.nodes) || !answer.nodes.every(isNode)) throw this.client.notOurs();
    return answer.nodes;
  }

  async get(id: string): Promise<NodeResource> {
    return this.#node(await this.client.json({ method: 'GET', path: pathOf(id) }));
  }

  async setEligible(id: string, eligible: boolean): Promise<NodeResource> {
    return this.#node(await this.#send('PUT', `${pathOf(id)}/eligibility`, { eligible }));
  }

  async plan(id: string, asked: DrainAsked): Promise<DrainPlan> {
    return this.#plan(await this.#send('PUT', `${pathOf(id)}/drain`, { ...asked, dryRun: true }));
  }

  async drain(id: string, asked: DrainAsked): Promise<NodeResource> {
    const answer = await this.#send('PUT', `${pathOf(id)}/drain`, asked);
    return this.#node((answer as { node?: unknown } | undefined)?.node);
  }

  async undrain(id: string, keepIneligible: boolean): Promise<NodeResource> {
    return this.#node(await this.#send('DELETE', `${pathOf(id)}/drain`, { keepIneligible }));
  }

  #send(method: string, path: string, body: object): Promise<unknown> {
    const headers = { 'content-type': 'application/json' };
    return this.client.json({ method, path, headers, body: Buffer.from(JSON.stringify(body)) });
  }

  #node(value: unknown): NodeResource {
    if (!isNode(value)) throw this.client.notOurs();
    return value;
  }

  #plan(answer: unknown): DrainPlan {
    const plan = (answer as { plan?: Partial<DrainPlan> } | undefined)?.plan;
    const counts = [plan?.inFlight, plan?.etaMs, plan?.idle, plan?.blanks];
    if (!counts.every((count) => typeof count === 'number')) throw this.client.notOurs();
    if (!Array.isArray(plan?.floors) || !Array.isArray(plan.reasons)) throw this.client.notOurs();
    return plan as DrainPlan;
  }
}

const pathOf = (id: string): string => `/api/nodes/${segment(id)}`;

function isNode(value: unknown): value is NodeResource {
  if (typeof value !== 'object' || value === null) return false;
  const { id, connected, eligible, cordoned, labels, isolation, runtimes, sandboxes, lastSeenAt, drain } =
    value as Partial<NodeResource>;
  const flags = [connected, eligible, cordoned].every((flag) => typeof flag === 'boolean');
  const texts = [id, lastSeenAt].every((text) => typeof text === 'string');
  const lists = Array.isArray(isolation) && Array.isArray(runtimes);
  const objects = [labels, sandboxes].every((object) => typeof object === 'object' && object !== null);
  return flags && texts && lists && objects && (drain === null || isDrain(drain));
}

function isDrain(value: unknown): value is DrainResource {
  if (typeof value !== 'object' || value === null) return false;
  const { id, state, startedAt, result } = value as Partial<DrainResource>;
  if (![id, state, startedAt].every((text) => typeof text === 'string')) return false;
  return typeof result?.killed === 'number' && typeof result.requeued === 'number';
}
