import { FleetError } from '@lambda-fleet/common/errors';
import type { DrainTable } from '../nodes/drain-table.js';
import type { NodeDecisions } from '../nodes/node-decisions.js';
import type { NodeRegistry } from '../nodes/node-registry.js';
import type { NodeStore } from '../nodes/node-store.js';
import type { ClusterView } from './cluster-view.js';
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
  readonly view: ClusterView;
  readonly store: NodeStore;
  readonly table: DrainTable;
  readonly decisions: Pick<NodeDecisions, 'look'>;
  readonly loadFloors: () => Promise<readonly ProvisionedVersion[]>;
  readonly loadNeeds: () => Promise<readonly FunctionNeeds[]>;
  readonly isolationOf: (asked: 'auto' | 'gvisor' | 'runc') => string;
}

/** Of an invocation that another replica has sent there: what any may be allowed. */
const BUDGET_MAX_MS = 1_800_000;

/** What the deadline ends is gone after SIGTERM and SIGKILL. */
const ENDING_MS = 5_000;

/** What operators ask of drains. */
export class NodeDrains {
  constructor(private readonly options: NodeDrainsOptions) {}

  /** @throws FleetError `node_not_found`, `unavailable` */
  async plan(projectId: string, nodeId: string, asked: DrainAsked): Promise<DrainPlan> {
    const { registry, store, view, loadFloors, loadNeeds, isolationOf } = this.options;
    await store.get(projectId, nodeId);
    const [floors, needs] = await Promise.all([loadFloors(), loadNeeds()]);
    const going = new Set([nodeId, ...asked.alongside]);
    const nodes = [...view.nodes].map((node) => ({
      view: node,
      memoryBytesTotal: registry.session(node.id)?.capacity.memoryBytesTotal ?? 0,
    }));
    const { reasons, moves } = planDrain({
      going: nodes.filter((node) => going.has(node.view.id)),
      staying: nodes.filter((node) => node.view.eligible && !going.has(node.view.id)),
      floors: floors.map(({ spec, isolation, provisionedConcurrency }) => ({
        spec,
        isolation: isolationOf(isolation),
        sandboxes: provisionedConcurrency,
      })),
      needs,
      minEligible: asked.minEligible,
    });
    return { node: nodeId, ...this.#load(nodeId, asked.deadlineMs), floors: moves, reasons };
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

  #load(nodeId: string, deadlineMs: number | null): Omit<DrainPlan, 'node' | 'floors' | 'reasons'> {
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
    const endsInMs = inFlight > count ? BUDGET_MAX_MS : Math.max(0, Math.ceil(endsBy - performance.now()));
    const ends = deadlineMs === null ? endsInMs : Math.min(endsInMs, deadlineMs + ENDING_MS);
    return { connected: true, inFlight, endsInMs, deadlineMs, etaMs: ends, idle, blanks };
  }
}
