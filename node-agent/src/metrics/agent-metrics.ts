import { type ResponseEnd, StartPath } from '@lambda-fleet/proto';
import { Counter, collectDefaultMetrics, Gauge, Registry } from 'prom-client';
import type { PoolFigures } from '../sandboxes/pool-figures.js';
import { NEXT_STATES } from '../sandboxes/sandbox-states.js';

/** What is read at each scrape. */
export interface AgentFigures {
  readonly pool: PoolFigures;
  readonly artifactCacheBytes: number;
}

const PATHS: Partial<Record<StartPath, string>> = {
  [StartPath.WARM]: 'warm',
  [StartPath.BLANK]: 'blank',
  [StartPath.COLD]: 'cold',
};

/** What an agent measures about itself. Base units, no ids as labels. */
export class AgentMetrics {
  readonly registry = new Registry();

  readonly #starts = new Counter({
    name: 'lambda_sandbox_starts_total',
    help: 'Invocations and deploy checks by how their sandbox was had: warm, blank (specialised) or cold (made).',
    labelNames: ['path'],
    registers: [this.registry],
  });

  constructor(private readonly read: () => AgentFigures) {
    collectDefaultMetrics({ register: this.registry });
    for (const path of Object.values(PATHS)) this.#starts.inc({ path }, 0);
    this.#gauge('lambda_sandboxes_frozen', 'Idle sandboxes whose processes stand still.', ({ pool }) => pool.frozen);
    this.#gauge(
      'lambda_memory_promised_bytes',
      'Memory promised to sandboxes.',
      ({ pool }) => pool.memoryPromisedBytes,
    );
    this.#gauge(
      'lambda_memory_total_bytes',
      'Memory that sandboxes may have together.',
      ({ pool }) => pool.memoryTotalBytes,
    );
    this.#gauge('lambda_artifact_cache_bytes', 'Extracted code on the disk.', (figures) => figures.artifactCacheBytes);
    this.#gauge(
      'lambda_leaked_sandboxes',
      'Sandboxes that could not be removed, or exist and belong to nobody.',
      ({ pool }) => pool.leaked,
    );
    const sandboxes: Gauge<'state'> = new Gauge({
      name: 'lambda_sandboxes',
      help: 'Sandboxes by state.',
      labelNames: ['state'],
      registers: [this.registry],
      collect: () => {
        const { states } = this.read().pool;
        for (const state of Object.keys(NEXT_STATES) as (keyof typeof NEXT_STATES)[]) {
          // Nothing is left of those.
          if (state !== 'gone') sandboxes.set({ state }, states.get(state) ?? 0);
        }
      },
    });
  }

  readonly observeEnd = ({ receipt }: ResponseEnd): void => {
    const path = receipt === undefined ? undefined : PATHS[receipt.start];
    if (path !== undefined) this.#starts.inc({ path });
  };

  #gauge(name: string, help: string, value: (figures: AgentFigures) => number): void {
    const gauge: Gauge = new Gauge({
      name,
      help,
      registers: [this.registry],
      collect: () => gauge.set(value(this.read())),
    });
  }
}
