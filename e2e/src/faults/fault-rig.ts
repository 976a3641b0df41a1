import { chmod, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'vitest';
import { type AgentPlan, Cluster, type ClusterAgent, type ClusterPlan } from '../cluster/cluster.js';
import { readRuns, recordedHandler } from '../fleet/run-ledger.js';
import { type EndedInvocation, judge, type SyncCall, type Verdict } from './verdict.js';

export interface RigOptions extends Partial<ClusterPlan> {
  /** Calls of each kind, sync and async, that are handed in per second. Default 10. */
  readonly perSecond?: number;
  /** What the function does, in the words of {@link recordedHandler}. Default: runs for 100 ms. */
  readonly body?: string;
}

interface Page {
  readonly executions?: readonly EndedInvocation[];
  readonly deadLetters?: readonly { readonly id: string }[];
  readonly nextCursor: string | null;
}

const AGENTS: readonly AgentPlan[] = [{ driver: 'process' }, { driver: 'process' }];
/** Faults last up to two minutes, and retries of the platform wait up to five. */
const SETTLE_DEADLINE_MS = 480_000;

/** A cluster under a load of sync and async calls whose every run is written down by the function itself. */
export class FaultRig {
  readonly #accepted: string[] = [];
  readonly #calls: SyncCall[] = [];
  readonly #open = new Set<Promise<void>>();
  #timer: NodeJS.Timeout | undefined;

  private constructor(
    readonly cluster: Cluster,
    private readonly runsFile: string,
  ) {}

  static async start(options: RigOptions = {}): Promise<FaultRig> {
    const { perSecond = 10, body = 'await new Promise((r) => setTimeout(r, 100)); return event.n;', ...plan } = options;
    const cluster = await Cluster.start({ controlPlanes: 2, agents: AGENTS, ...plan });
    try {
      // Functions run as a user without rights.
      const runsFile = join(cluster.folder, 'runs');
      await writeFile(runsFile, '');
      await chmod(runsFile, 0o666);
      const code = { source: recordedHandler(runsFile, body) };
      const deployed = await cluster.api('PUT', '/api/functions/works', { memoryMb: 128, code });
      expect(deployed.status, deployed.text).toBe(201);
      const settings = await cluster.api('PATCH', '/api/functions/works/async', { retryDelaysMs: [200] });
      expect(settings.status, settings.text).toBe(200);
      const rig = new FaultRig(cluster, runsFile);
      const headers = { authorization: `Bearer ${await cluster.apiKey()}`, 'content-type': 'application/json' };
      rig.#begin(perSecond, headers);
      return rig;
    } catch (err) {
      await cluster.dispose();
      throw err;
    }
  }

  /** How many calls have been answered so far, of both kinds. */
  get answered(): number {
    return this.#accepted.length + this.#calls.length;
  }

  /** The agent that has most to lose: calls gather on few nodes, and a fault of another one would show nothing. */
  async busiest(): Promise<ClusterAgent> {
    const { agents } = this.cluster;
    for (const giveUpAt = Date.now() + 30_000; Date.now() < giveUpAt; await sleep(20)) {
      const answer = await this.cluster.api('GET', '/api/nodes');
      const { nodes } = answer.json<{ nodes: readonly { id: string; sandboxes: { busy: number } }[] }>();
      const busy = (id: string): number => nodes.find((node) => node.id === id)?.sandboxes.busy ?? 0;
      const [first] = agents.toSorted((a, b) => busy(b.id) - busy(a.id));
      if (first !== undefined && busy(first.id) > 0) return first;
    }
    throw new Error('no node was busy');
  }

  /** Waits until so many more calls were answered well: the system serves. */
  async serves(calls = 20): Promise<void> {
    const good = (): number => this.#accepted.length + this.#calls.filter(({ succeeded }) => succeeded).length;
    const goal = good() + calls;
    await expect.poll(good, { timeout: 120_000, interval: 100 }).toBeGreaterThanOrEqual(goal);
  }

  /** Ends the load, waits until everything that was accepted has ended, and judges. */
  async judge(): Promise<Verdict> {
    clearInterval(this.#timer);
    await Promise.all(this.#open);
    const { cluster } = this;
    const left = async (): Promise<number> => {
      const answer = await cluster.api('GET', '/api/queue').catch(() => undefined);
      if (answer?.status !== 200) return Number.NaN;
      const { queued, running } = answer.json<{ queued: number; running: number }>();
      return queued + running;
    };
    await expect.poll(left, { timeout: SETTLE_DEADLINE_MS, interval: 250 }).toBe(0);
    const executions = await this.#all('/api/executions?trigger=async&', (page) => page.executions ?? []);
    const dead = await this.#all('/api/dead-letters?', (page) => page.deadLetters ?? []);
    return judge({
      accepted: this.#accepted,
      calls: this.#calls,
      executions: new Map(executions.map((one) => [one.id, one])),
      dead: new Set(dead.map(({ id }) => id)),
      runs: await readRuns(this.runsFile),
      ended: cluster.ended(),
    });
  }

  async dispose(): Promise<void> {
    clearInterval(this.#timer);
    await Promise.all(this.#open);
    await this.cluster.dispose();
  }

  #begin(perSecond: number, headers: Readonly<Record<string, string>>): void {
    let n = 0;
    const send = (mode: 'sync' | 'async'): void => {
      n += 1;
      const call = { method: 'POST', path: `/api/functions/works/invocations?mode=${mode}`, headers };
      const one = this.cluster.balancer.call({ ...call, body: JSON.stringify({ n }) }).then(
        ({ status, headers: answered, text }) => {
          const id = String(answered['x-request-id'] ?? '');
          if (mode === 'sync') {
            const what = `${status} ${answered['x-lambda-outcome'] ?? '-'}`;
            this.#calls.push({ id, what, succeeded: status === 200 });
          } else if (status === 202) this.#accepted.push((JSON.parse(text) as { id: string }).id);
        },
        (err: unknown) => {
          // An async call without an answer was promised nothing.
          if (mode === 'sync') this.#calls.push({ id: '', what: String(err), succeeded: false });
        },
      );
      this.#open.add(one);
      void one.then(() => this.#open.delete(one));
    };
    this.#timer = setInterval(() => {
      send('sync');
      send('async');
    }, 1_000 / perSecond);
  }

  async #all<T>(path: string, pick: (page: Page) => readonly T[]): Promise<T[]> {
    const found: T[] = [];
    let cursor: string | null = null;
    do {
      const answer = await this.cluster.api('GET', `${path}limit=1000${cursor === null ? '' : `&cursor=${cursor}`}`);
      expect(answer.status, answer.text).toBe(200);
      const page: Page = answer.json<Page>();
      found.push(...pick(page));
      cursor = page.nextCursor;
    } while (cursor !== null);
    return found;
  }
}

/** Some time under load, so that the fault meets calls of every age. */
export function underLoad(ms: number): Promise<void> {
  return sleep(ms);
}
