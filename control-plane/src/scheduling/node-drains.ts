import { FleetError } from '@lambda-fleet/common/errors';
import type { VersionSandboxes } from '@lambda-fleet/proto';
import { areUuids } from '../nodes/agent-claims.js';
import type { DrainTable } from '../nodes/drain-table.js';
import type { NodeDecisions } from '../nodes/node-decisions.js';
import type { NodeRegistry } from '../nodes/node-registry.js';
import type { NodeStore } from '../nodes/node-store.js';
import { offerOf } from './connected-nodes-view.js';
import { type DrainReason, type FloorMove, type FunctionNeeds, planDrain } from './drain-plan.js';
import type { ProvisionedVersion } from './provisioned-floors.js';

export interface DrainAsked {
  /** From now; null has none. */
  readonly deadlineMs: number | null;
  readonly force: boolean;
  readonly message: string | null;
  /** So many eligible nodes must be left. */
  readonly minEligible: number;
  /** Other nodes that are drained in the same go: none of them counts as one that is left. */
  readonly alongside: readonly string[];
}

/** What a drain would do, as far as this replica knows. */
export interface DrainPlan {
  readonly node: string;
  readonly connected: boolean;
  readonly inFlight: number;
  /** By when all of it has ended by its own deadlines. */
  readonly endsInMs: number;
  readonly deadlineMs: number | null;
  /** When the node is empty at the latest, if its agent stays connected. */
  readonly etaMs: number;
  readonly idle: number;
  readonly blanks: number;
  readonly floors: readonly FloorMove[];
  /** Why it is refused, unless it is forced. */
  readonly reasons: readonly DrainReason[];
}

export interface NodeDrainsOptions {
  readonly registry: NodeRegistry;
  readonly store: NodeStore;
  readonly table: DrainTable;
  readonly decisions: Pick<NodeDecisions, 'look'>;
  readonly loadFloors: () => Promise<readonly ProvisionedVersion[]>;
  readonly loadNeeds: () => Promise<readonly FunctionNeeds[]>;
  /** The longest that an invocation of these versions may take on a node; undefined when that is not known. */
  readonly longestRunMs: (versionIds: readonly string[]) => Promise<number | undefined>;
  readonly isolationOf: (asked: 'auto' | 'gvisor' | 'runc') => string;
}

/** What any invocation may be allowed. */
const BUDGET_MAX_MS = 1_800_000;
/** Beside its run: until it has a sandbox that is booted and has its code. */
const START_MS_MAX = 60_000;

/** What the deadline ends is gone after SIGTERM and SIGKILL. */
const ENDING_MS = 5_000;

/** What operators ask of drains. */
export class NodeDrains {
  constructor(private readonly options: NodeDrainsOptions) {}

  /** @throws FleetError `node_not_found`, `unavailable` */
  async plan(projectId: string, nodeId: string, asked: DrainAsked): Promise<DrainPlan> {
    const { registry, store, loadFloors, loadNeeds, isolationOf } = this.options;
    await store.get(projectId, nodeId, registry.session(nodeId) !== undefined);
    const [floors, needs] = await Promise.all([loadFloors(), loadNeeds()]);
    const going = new Set([nodeId, ...asked.alongside]);
    const nodes = [...registry.sessions()].map((session) => ({
      id: session.nodeId,
      eligible: registry.isEligible(session),
      offer: offerOf(session),
      slotsTotal: session.capacity.slotsTotal,
      memoryBytesTotal: session.capacity.memoryBytesTotal,
    }));
    const { reasons, moves } = planDrain({
      going: nodes.filter((node) => going.has(node.id)),
      staying: nodes.filter((node) => node.eligible && !going.has(node.id)),
      floors: floors.map(({ spec, isolation, provisionedConcurrency, labels }) => ({
        ...{ spec, labels },
        isolation: isolationOf(isolation),
        sandboxes: provisionedConcurrency,
      })),
      needs,
      minEligible: asked.minEligible,
    });
    return { node: nodeId, ...(await this.#load(nodeId, asked.deadlineMs)), floors: moves, reasons };
  }

  /** @throws FleetError `drain_refused`, `node_not_found`, `unavailable` */
  async start(projectId: string, nodeId: string, asked: DrainAsked): Promise<DrainPlan> {
    const plan = await this.plan(projectId, nodeId, asked);
    const { reasons } = plan;
    if (reasons.length > 0 && !asked.force) {
      const texts = reasons.map(({ message, override }) => `${message} (${override} overrides this.)`);
      throw new FleetError('drain_refused', `${nodeId} is not drained: ${texts.join(' ')}`, { reasons });
    }
    const { deadlineMs, message } = asked;
    await this.options.table.start(projectId, nodeId, { deadlineMs, message, forced: asked.force });
    await this.options.decisions.look();
    return plan;
  }

  /** @throws FleetError `node_not_found`, `unavailable` */
  async cancel(projectId: string, nodeId: string, keepIneligible: boolean): Promise<void> {
    await this.options.table.cancel(projectId, nodeId, keepIneligible);
    await this.options.decisions.look();
  }

  /** @throws FleetError `conflict`, `node_not_found`, `unavailable` */
  async setEligible(projectId: string, nodeId: string, eligible: boolean): Promise<void> {
    await this.options.store.setEligible(projectId, nodeId, eligible);
    await this.options.decisions.look();
  }

  async #load(nodeId: string, deadlineMs: number | null): Promise<Omit<DrainPlan, 'node' | 'floors' | 'reasons'>> {
    const session = this.options.registry.session(nodeId);
    const none = { connected: false, inFlight: 0, endsInMs: 0, deadlineMs, etaMs: 0, idle: 0, blanks: 0 };
    if (session === undefined) return none;
    const { count, endsBy } = session.inFlight;
    let [idle, busy, blanks] = [0, 0, 0];
    for (const version of session.capacity.versions) {
      idle += version.idle;
      busy += version.busy;
    }
    for (const blank of session.capacity.blanks) blanks += blank.count;
    const inFlight = Math.max(count, busy);
    const endsInMs = Math.max(
      Math.ceil(endsBy - performance.now()),
      inFlight > count ? await this.#longestOf(session.capacity.versions) : 0,
    );
    const ends = deadlineMs === null ? endsInMs : Math.min(endsInMs, deadlineMs + ENDING_MS);
    return { connected: true, inFlight, endsInMs, deadlineMs, etaMs: ends, idle, blanks };
  }

  /** Of what another replica has sent there. */
  async #longestOf(versions: readonly VersionSandboxes[]): Promise<number> {
    const busy = versions.filter((version) => version.busy > 0).map(({ versionId }) => versionId);
    const runMs = areUuids(busy) ? await this.options.longestRunMs(busy) : undefined;
    return runMs === undefined ? BUDGET_MAX_MS : START_MS_MAX + runMs;
  }
}
