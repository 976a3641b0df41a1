import { ClusterIndex } from './cluster-index.js';
import type { Demand } from './cluster-view.js';

/** A node of a test: what is not said is an ordinary idle node. */
export interface NodeSketch {
  readonly eligible?: boolean;
  readonly runtimes?: readonly string[];
  readonly isolation?: readonly string[];
  readonly networks?: readonly string[];
  readonly architecture?: string;
  readonly labels?: readonly string[];
  /** Of `nodejs` with `runc`, for functions of any memory. */
  readonly blanks?: number;
  readonly memory?: number;
  readonly free?: number;
  readonly slots?: number;
  /** Of the version `v`. */
  readonly sandboxes?: number;
  readonly inFlight?: number;
}

export const SKETCHED_DEMAND: Demand = {
  functionId: 'f',
  versionId: 'v',
  runtime: 'nodejs',
  isolation: 'runc',
  network: 'none',
  architecture: '',
  labels: [],
  memoryMb: 100,
  concurrency: 1,
  amount: { memoryBytes: 100, milliSlots: 1_000 },
};

export function sketchedCluster(nodes: Readonly<Record<string, NodeSketch>>): ClusterIndex {
  const index = new ClusterIndex();
  for (const [id, sketch] of Object.entries(nodes)) putSketch(index, id, sketch);
  return index;
}

export function putSketch(index: ClusterIndex, id: string, sketch: NodeSketch): void {
  const {
    runtimes = ['nodejs'],
    isolation = ['runc'],
    networks = ['none'],
    architecture = 'x64',
    labels = [],
  } = sketch;
  const { slots = 10, free = slots, memory = 1_000, blanks = 0, sandboxes = 0, inFlight = 0 } = sketch;
  index.put(id, { runtimes, isolation, networks, architecture, labels }, sketch.eligible ?? true);
  index.setRoom(id, memory, free, slots);
  index.setBlanks(id, [{ runtime: 'nodejs', isolation: 'runc', network: 'none', memoryMb: 0, count: blanks }]);
  index.setVersion(id, 'v', sandboxes, inFlight);
}
