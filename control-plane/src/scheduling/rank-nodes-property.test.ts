import { describe, expect, it } from 'vitest';
import { ClusterIndex } from './cluster-index.js';
import type { Demand } from './cluster-view.js';
import { mixed } from './hash.js';
import { CANDIDATES_MAX, missingFor, rankNodes } from './rank-nodes.js';

/** What is true of a node, as plain as can be. */
interface Model {
  eligible: boolean;
  runtimes: string[];
  isolation: string[];
  networks: string[];
  architecture: string;
  labels: string[];
  memory: number;
  free: number;
  slots: number;
  blanks: { runtime: string; isolation: string; network: string; memoryMb: number; count: number }[];
  sandboxes: Map<string, number>;
  inFlight: Map<string, number>;
}

/** The same numbers for the same seed. */
class Dice {
  constructor(private seed: number) {}

  /** From 0 to below - 1. */
  upTo(below: number): number {
    this.seed = (this.seed + 0x9e3779b9) >>> 0;
    return mixed(this.seed) % below;
  }

  one<T>(of: readonly T[]): T {
    return of[this.upTo(of.length)] as T;
  }

  some<T>(of: readonly T[]): T[] {
    const chosen = of.filter(() => this.upTo(2) === 0);
    return chosen.length > 0 ? chosen : [this.one(of)];
  }
}

const RUNTIMES = ['nodejs', 'python'];
const ISOLATION = ['runc', 'gvisor'];
const NETWORKS = ['none', 'egress'];
const LABELS = ['zone=a', 'zone=b', 'disk=ssd'];
const VERSIONS = ['v0', 'v1', 'v2'];
/** Of a version: how many invocations share a sandbox never changes. */
const CONCURRENCY: Readonly<Record<string, number>> = { v0: 1, v1: 1, v2: 4 };
const MEMORY_MB = [100, 200, 700];

function newNode(dice: Dice, full: boolean): Model {
  const slots = dice.upTo(4);
  return {
    eligible: dice.upTo(5) > 0,
    runtimes: dice.some(RUNTIMES),
    isolation: dice.some(ISOLATION),
    networks: dice.some(NETWORKS),
    architecture: dice.one(['x64', 'x64', 'arm64']),
    labels: dice.some(LABELS),
    slots,
    free: full ? 0 : dice.upTo(4 * slots + 1) / 4,
    memory: dice.upTo(800),
    blanks: [],
    sandboxes: new Map(),
    inFlight: new Map(),
  };
}

function demandOf(dice: Dice): Demand {
  const versionId = dice.one(VERSIONS);
  const concurrency = CONCURRENCY[versionId] ?? 1;
  const memoryMb = dice.one(MEMORY_MB);
  return {
    functionId: `f${dice.upTo(20)}`,
    versionId,
    runtime: dice.one(RUNTIMES),
    isolation: dice.one(ISOLATION),
    network: dice.one(NETWORKS),
    architecture: dice.one(['', '', 'arm64']),
    labels: dice.upTo(3) === 0 ? dice.some(LABELS) : [],
    memoryMb,
    concurrency,
    amount:
      dice.upTo(6) === 0
        ? 'whole-node'
        : { memoryBytes: Math.ceil(memoryMb / concurrency), milliSlots: Math.ceil(1_000 / concurrency) },
  };
}

/** Changes one node in one way, in the model and in what is tested. */
function change(dice: Dice, models: Map<string, Model>, index: ClusterIndex, nodesMax: number, full: boolean): void {
  const id = `n${dice.upTo(nodesMax)}`;
  const model = models.get(id);
  if (model === undefined) {
    const created = newNode(dice, full);
    models.set(id, created);
    tellOffer(index, id, created);
    index.setRoom(id, created.memory, created.free, created.slots);
    return;
  }
  const version = dice.one(VERSIONS);
  switch (dice.upTo(7)) {
    case 0:
      models.delete(id);
      index.remove(id);
      return;
    case 1:
      model.eligible = !model.eligible;
      tellOffer(index, id, model);
      return;
    case 2:
      Object.assign(model, {
        runtimes: dice.some(RUNTIMES),
        isolation: dice.some(ISOLATION),
        labels: dice.some(LABELS),
      });
      tellOffer(index, id, model);
      return;
    case 3:
      Object.assign(model, { memory: dice.upTo(800), free: full ? 0 : dice.upTo(4 * model.slots + 1) / 4 });
      index.setRoom(id, model.memory, model.free, model.slots);
      return;
    case 4:
      model.blanks = dice.some(MEMORY_MB.concat(0)).map((memoryMb) => ({
        ...{ runtime: dice.one(RUNTIMES), isolation: dice.one(ISOLATION), network: dice.one(NETWORKS) },
        ...{ memoryMb, count: dice.upTo(2) },
      }));
      index.setBlanks(id, model.blanks);
      return;
    case 5:
      model.sandboxes.set(version, dice.upTo(3));
      break;
    default:
      model.inFlight.set(version, dice.upTo(4));
  }
  index.setVersion(id, version, model.sandboxes.get(version) ?? 0, model.inFlight.get(version) ?? 0);
}

function tellOffer(index: ClusterIndex, id: string, model: Model): void {
  const { runtimes, isolation, networks, architecture, labels } = model;
  index.put(id, { runtimes, isolation, networks, architecture, labels }, model.eligible);
}

function isAble(model: Model, demand: Demand): boolean {
  if (demand.architecture !== '' && demand.architecture !== model.architecture) return false;
  if (!demand.labels.every((label) => model.labels.includes(label))) return false;
  if (!model.eligible || !model.runtimes.includes(demand.runtime)) return false;
  return model.isolation.includes(demand.isolation) && model.networks.includes(demand.network);
}

function hasRoom(model: Model, { amount }: Demand): boolean {
  if (amount === 'whole-node') return model.slots > 0 && model.free === model.slots;
  return model.free * 1_000 >= amount.milliSlots && model.memory >= amount.memoryBytes;
}

const isWarm = ({ sandboxes, inFlight }: Model, { versionId, concurrency }: Demand) =>
  (sandboxes.get(versionId) ?? 0) * concurrency > (inFlight.get(versionId) ?? 0);

const hasBlank = ({ blanks }: Model, { runtime, isolation, network, memoryMb }: Demand) =>
  blanks.some(
    (blank) =>
      blank.count > 0 &&
      blank.runtime === runtime &&
      blank.isolation === isolation &&
      blank.network === network &&
      (blank.memoryMb === 0 || blank.memoryMb === memoryMb),
  );

/** What the ranking promises, checked with a walk over all nodes. */
function check(models: Map<string, Model>, index: ClusterIndex, demand: Demand): void {
  const fitting = [...models].filter(([, model]) => isAble(model, demand) && hasRoom(model, demand));
  const ids = rankNodes(index, demand);
  const ranked = ids.map((id) => models.get(id) as Model);
  expect(new Set(ids).size).toBe(ids.length);
  expect(ids.length).toBeLessThanOrEqual(CANDIDATES_MAX);
  for (const id of ids) expect(fitting.map(([fits]) => fits)).toContain(id);
  const [first] = ranked;
  if (first === undefined) expect(fitting).toEqual([]);
  const warm = fitting.filter(([, model]) => isWarm(model, demand));
  const ranks = ranked.map((model) => (isWarm(model, demand) ? 0 : hasBlank(model, demand) ? 1 : 2));
  expect(ranks).toEqual(ranks.toSorted());
  if (first !== undefined && warm.length > 0) expect(isWarm(first, demand)).toBe(true);
  else if (first !== undefined && fitting.some(([, model]) => hasBlank(model, demand)))
    expect(hasBlank(first, demand)).toBe(true);
  if (warm.length === 0 && models.size <= CANDIDATES_MAX) expect(ids.length).toBe(fitting.length);
  if (warm.length <= CANDIDATES_MAX) {
    const free = ranked.filter((model) => isWarm(model, demand)).map((model) => model.free);
    expect(free).toEqual(warm.map(([, model]) => model.free).toSorted((a, b) => a - b));
  }
  const possible = [...models.values()].some((model) => isAble(model, demand));
  expect(missingFor(index, demand) === undefined).toBe(possible);
}

describe.each([
  { nodesMax: 1, seeds: 20, steps: 200, full: false },
  { nodesMax: 5, seeds: 40, steps: 200, full: false },
  { nodesMax: 40, seeds: 20, steps: 300, full: false },
  { nodesMax: 600, seeds: 4, steps: 3_000, full: false },
  { nodesMax: 600, seeds: 4, steps: 3_000, full: true },
])('with up to $nodesMax nodes that change all the time (full: $full)', ({ nodesMax, seeds, steps, full }) => {
  it('names nodes that fit, warm ones first and those with blanks next, and finds one whenever there is one', () => {
    for (let seed = 0; seed < seeds; seed += 1) {
      const dice = new Dice(seed * 7_919 + nodesMax);
      const models = new Map<string, Model>();
      const index = new ClusterIndex();
      for (let step = 0; step < steps; step += 1) {
        change(dice, models, index, nodesMax, full && step % 10 > 0);
        if (step % Math.ceil(steps / 100) === 0) check(models, index, demandOf(dice));
      }
      let [used, total] = [0, 0];
      for (const model of models.values()) {
        if (!model.eligible) continue;
        used += (model.slots - model.free) * 1_000;
        total += model.slots * 1_000;
      }
      expect([index.milliSlotsUsed, index.milliSlotsTotal]).toEqual([used, total]);
    }
  });
});
