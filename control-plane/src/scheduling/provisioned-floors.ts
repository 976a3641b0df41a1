import { errorText } from '@lambda-fleet/common/errors';
import type { Logger } from '@lambda-fleet/common/logger';
import type { VersionSpec, WarmFloor } from '@lambda-fleet/proto';
import type { NodeRegistry } from '../nodes/node-registry.js';
import type { NodeSession } from '../nodes/node-session.js';
import { assignFloors } from './assign-floors.js';
import type { ClusterView } from './cluster-view.js';

/** A version of which sandboxes are kept ready. */
export interface ProvisionedVersion {
  readonly spec: VersionSpec;
  readonly isolation: 'auto' | 'gvisor' | 'runc';
  readonly provisionedConcurrency: number;
  readonly labels: readonly string[];
}

export interface ProvisionedFloorsOptions {
  /** All versions that have a floor. */
  readonly load: () => Promise<readonly ProvisionedVersion[]>;
  readonly isolationOf: (asked: 'auto' | 'gvisor' | 'runc') => string;
  readonly view: ClusterView;
  readonly registry: NodeRegistry;
  readonly log: Logger;
}

/** Changes of functions and nodes come in bursts. */
const LINGER_MS = 50;
/** The backstop for lost notices, and for nodes that have become eligible or silent. */
const LOOK_MS = 10_000;

/**
 * Tells nodes how many sandboxes of which versions to keep ready, so that together they keep what each version asks for.
 *
 * Made before it is broken: a node that takes no new work keeps what it was told until the nodes that take its place report
 * theirs ready. What a node was told is remembered per session, because a session begins with no floors; every one hears
 * something, if only that there are none, because its agent may hold what an earlier session said. While the database is away
 * the floors that are known stay, and before they were loaded once nobody hears anything.
 */
export class ProvisionedFloors {
  readonly #told = new WeakMap<NodeSession, ReadonlyMap<string, WarmFloor>>();
  #versions: readonly ProvisionedVersion[] = [];
  #loaded = false;
  #stale = true;
  /** Whether a node that takes no new work keeps floors until others have theirs. */
  #holding = false;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;
  readonly #backstop: NodeJS.Timeout;

  constructor(private readonly options: ProvisionedFloorsOptions) {
    this.#backstop = setInterval(() => this.functionsChanged(), LOOK_MS).unref();
    this.functionsChanged();
  }

  functionsChanged(): void {
    this.#stale = true;
    this.#wake();
  }

  nodesChanged(): void {
    this.#wake();
  }

  /** A node said what it has. */
  capacityReported(): void {
    if (this.#holding) this.#wake();
  }

  close(): void {
    this.#closed = true;
    clearInterval(this.#backstop);
    clearTimeout(this.#timer);
  }

  #wake(): void {
    if (this.#closed || this.#timer !== undefined) return;
    this.#timer = setTimeout(() => void this.#look(), LINGER_MS);
    this.#timer.unref();
  }

  async #look(): Promise<void> {
    const { load, log, registry } = this.options;
    if (this.#stale) {
      this.#stale = false;
      try {
        this.#versions = await load();
        this.#loaded = true;
      } catch (err) {
        log.warn({ reason: errorText(err) }, 'floors_not_loaded');
      }
    }
    this.#timer = undefined;
    if (this.#closed) return;
    // Functions changed while they were loaded.
    if (this.#stale) this.#wake();
    if (!this.#loaded) return;
    const wanted = this.#assign();
    this.#holding = false;
    for (const session of registry.sessions()) {
      if (registry.isEligible(session)) this.#tell(session, wanted.get(session.nodeId) ?? NO_FLOORS);
      else this.#tell(session, this.#held(session, wanted));
    }
  }

  /** What a node that takes no new work goes on keeping. */
  #held(session: NodeSession, wanted: ReadonlyMap<string, ReadonlyMap<string, WarmFloor>>): Map<string, WarmFloor> {
    const provisioned = new Set(this.#versions.map(({ spec }) => spec.versionId));
    const told = [...(this.#told.get(session) ?? [])];
    const held = new Map(told.filter(([id]) => provisioned.has(id) && !this.#isReady(id, wanted)));
    if (held.size > 0) this.#holding = true;
    return held;
  }

  /** Whether the nodes that are to keep sandboxes of the version have them. */
  #isReady(versionId: string, wanted: ReadonlyMap<string, ReadonlyMap<string, WarmFloor>>): boolean {
    for (const [nodeId, floors] of wanted) {
      const floor = floors.get(versionId);
      if (floor === undefined) continue;
      const session = this.options.registry.session(nodeId);
      if (session === undefined || readyOf(session, versionId) < possibleOf(session, floor)) return false;
    }
    return true;
  }

  /** Node → version → floor. */
  #assign(): Map<string, Map<string, WarmFloor>> {
    const { view } = this.options;
    const wanted = new Map<string, Map<string, WarmFloor>>();
    for (const { spec, isolation: asked, provisionedConcurrency, labels } of this.#versions) {
      const isolation = this.options.isolationOf(asked);
      for (const [nodeId, sandboxes] of assignFloors(view, spec, isolation, provisionedConcurrency, labels)) {
        const floors = wanted.get(nodeId) ?? new Map<string, WarmFloor>();
        wanted.set(nodeId, floors.set(spec.versionId, { spec, isolation, sandboxes }));
      }
    }
    return wanted;
  }

  #tell(session: NodeSession, wanted: ReadonlyMap<string, WarmFloor>): void {
    const isFirst = !this.#told.has(session);
    const told = this.#told.get(session) ?? NO_FLOORS;
    const changes = [...wanted.values()].filter((floor) => !isSame(told.get(floor.spec?.versionId ?? ''), floor));
    for (const [versionId, floor] of told) {
      const now = wanted.get(versionId);
      // One that moved to another isolation ends under the old one too.
      if (now === undefined || now.isolation !== floor.isolation) changes.unshift({ ...floor, sandboxes: 0 });
    }
    this.#told.set(session, wanted);
    if (isFirst || changes.length > 0) session.warm(changes);
  }
}

const NO_FLOORS: ReadonlyMap<string, WarmFloor> = new Map();

function isSame(a: WarmFloor | undefined, b: WarmFloor): boolean {
  return a !== undefined && a.sandboxes === b.sandboxes && a.isolation === b.isolation;
}

/** Whoever's calls they run. One that is still being made counts as busy, and runs nothing. */
function readyOf(session: NodeSession, versionId: string): number {
  const has = session.capacity.versions.find((version) => version.versionId === versionId);
  return has === undefined ? 0 : has.idle + Math.max(0, has.busy - (has.starting ?? 0));
}

/** A node whose whole memory is too small for a floor never has all of it, and nobody is to wait for that. */
function possibleOf({ capacity }: NodeSession, { sandboxes, spec }: WarmFloor): number {
  const bytes = (spec?.memoryMb ?? 0) * 1024 * 1024;
  return bytes === 0 ? sandboxes : Math.min(sandboxes, Math.floor(capacity.memoryBytesTotal / bytes));
}
