import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { CRASH_POINTS } from '@lambda-fleet/common/crash-points';
import { afterEach, describe, expect, it } from 'vitest';
import { crashAt, killOne, seeded, type Victim } from './fleet/chaos.js';
import { Fleet } from './fleet/fleet.js';
import { readRuns, recordedHandler } from './fleet/run-ledger.js';

/** To run it longer, or again as it was: `LAMBDA_FAULT_CALLS=100000 LAMBDA_FAULT_SEED=7 npx vitest run --project e2e async-faults`. */
const CALLS = Number(process.env.LAMBDA_FAULT_CALLS ?? 10_000);
const SEED = Number(process.env.LAMBDA_FAULT_SEED ?? Date.now() % 100_000);
const CLIENTS = 12;
const KILLS_EACH = 3;

interface Execution {
  readonly id: string;
  readonly outcome: string;
  readonly epoch: number;
  readonly attempts: number;
}

interface Page {
  readonly executions?: readonly Execution[];
  readonly deadLetters?: readonly { readonly id: string }[];
  readonly nextCursor: string | null;
}

let fleet: Fleet | undefined;
let folder = '';

afterEach(async () => {
  await fleet?.dispose();
  fleet = undefined;
  await rm(folder, { recursive: true, force: true });
});

async function all<T>(of: Fleet, path: string, pick: (page: Page) => readonly T[]): Promise<T[]> {
  const found: T[] = [];
  let cursor: string | null = null;
  do {
    const answer = await of.api('GET', `${path}limit=1000${cursor === null ? '' : `&cursor=${cursor}`}`);
    expect(answer.status, answer.text).toBe(200);
    const page: Page = answer.json<Page>();
    found.push(...pick(page));
    cursor = page.nextCursor;
  } while (cursor !== null);
  return found;
}

/** Every 202 ends in a success or in the dead letters, whatever is killed. */
describe('async invocations while everything is killed', () => {
  it('lose none, and run none twice under one epoch', { timeout: 900_000 }, async () => {
    const random = seeded(SEED);
    folder = await mkdtemp(join(tmpdir(), 'lf-faults-'));
    // Functions run as a user without rights.
    await chmod(folder, 0o711);
    const [runsFile, crashFile] = [join(folder, 'runs'), join(folder, 'crash')];
    await writeFile(runsFile, '');
    await chmod(runsFile, 0o666);
    fleet = await Fleet.start({
      driver: 'process',
      env: { LAMBDA_CRASH_FILE: crashFile, LAMBDA_UP_DEATHS_MAX: '100' },
    });
    const running = fleet;
    const functions = {
      // Fails the first time that an invocation is run, when it is told to.
      works: 'if (event.failFirst && before === 0) throw new Error("the first time"); return event.n;',
      fails: 'throw new Error("always");',
    };
    for (const [name, body] of Object.entries(functions)) {
      const source = recordedHandler(runsFile, body);
      const deployed = await running.api('PUT', `/api/functions/${name}`, { memoryMb: 128, code: { source } });
      expect(deployed.status, deployed.text).toBe(201);
      const settings = { retries: name === 'fails' ? 1 : 2, retryDelaysMs: [200] };
      expect((await running.api('PATCH', `/api/functions/${name}/async`, settings)).status).toBe(200);
    }

    const accepted = new Map<string, keyof typeof functions>();
    let [sent, unanswered] = [0, 0];
    // So that calls are under way during all of the faults, however fast the machine is.
    let pauseMs = (CLIENTS * 60_000) / CALLS;
    let faultsLeft = true;
    const client = async (): Promise<void> => {
      while (sent < CALLS || faultsLeft) {
        const n = sent;
        sent += 1;
        const name = n % 50 === 0 ? 'fails' : 'works';
        const event = { n, ...(n % 97 === 0 && { failFirst: true, counts: true }) };
        const answer = await running
          .api('POST', `/api/functions/${name}/invocations?mode=async`, event)
          .catch(() => null);
        if (answer?.status === 202) accepted.set(answer.json<{ id: string }>().id, name);
        else {
          // Not promised: sent again, as a client would.
          unanswered += 1;
          sent -= 1;
          await sleep(100);
        }
        if (pauseMs > 0) await sleep(pauseMs);
      }
    };
    const startedAt = performance.now();
    const clients = Array.from({ length: CLIENTS }, client);
    const faults: string[] = [];
    const victims = (['control plane', 'agent', 'PostgreSQL'] satisfies Victim[]).flatMap((victim) =>
      Array<Victim>(KILLS_EACH).fill(victim),
    );
    const plan = [...victims.map((victim) => ({ victim })), ...CRASH_POINTS.map((point) => ({ point }))]
      .map((fault) => ({ fault, at: random() }))
      .sort((a, b) => a.at - b.at);
    for (const { fault } of plan) {
      await sleep(200 + random() * 1_500);
      if ('victim' in fault) await killOne(running, fault.victim);
      else await crashAt(running, crashFile, fault.point);
      faults.push('victim' in fault ? fault.victim : fault.point);
    }
    faultsLeft = false;
    pauseMs = 0;
    await Promise.all(clients);
    const ended = async (): Promise<number> => {
      const { queued, running: now } = (await running.api('GET', '/api/queue')).json<{
        queued: number;
        running: number;
      }>();
      return queued + now;
    };
    await expect.poll(ended, { timeout: 300_000, interval: 250 }).toBe(0);
    const tookMs = performance.now() - startedAt;

    const executions = new Map(
      (await all(running, '/api/executions?trigger=async&', (page) => page.executions ?? [])).map((one) => [
        one.id,
        one,
      ]),
    );
    const dead = new Set(
      (await all(running, '/api/dead-letters?', (page) => page.deadLetters ?? [])).map(({ id }) => id),
    );
    const runs = await readRuns(runsFile);
    const ids = [...accepted.keys()];
    const succeeded = ids.filter((id) => executions.get(id)?.outcome === 'success');
    const lost = ids.filter((id) => executions.get(id)?.outcome !== 'success' && !dead.has(id));
    const both = ids.filter((id) => executions.get(id)?.outcome === 'success' && dead.has(id));
    const rerun = ids.filter((id) => (runs.get(id)?.length ?? 0) > 1);
    const overrun = ids.filter((id) => (runs.get(id)?.length ?? 0) > (executions.get(id)?.epoch ?? 0));
    const unrun = succeeded.filter((id) => !runs.has(id));
    process.stdout.write(
      [
        `async faults, seed ${SEED}, ${Math.round(tookMs / 1_000)} s: ${faults.length} kills (${faults.join(', ')})`,
        `submitted ${accepted.size}, succeeded ${succeeded.length}, dead ${ids.filter((id) => dead.has(id)).length}, ` +
          `re-run ${rerun.length}, lost ${lost.length}; refused or unanswered ${unanswered}`,
        '',
      ].join('\n'),
    );
    expect(accepted.size).toBeGreaterThanOrEqual(CALLS);
    expect(lost).toEqual([]);
    expect(both).toEqual([]);
    expect(overrun, 'runs under one epoch').toEqual([]);
    expect(unrun).toEqual([]);
    // Those that cannot succeed, and no others, unless the faults took them.
    for (const id of succeeded) expect(accepted.get(id)).toBe('works');
    const failing = ids.filter((id) => accepted.get(id) === 'fails');
    expect(failing.length).toBeGreaterThan(0);
    expect(failing.filter((id) => !dead.has(id))).toEqual([]);
    // No two runs of one invocation at once. One whose sandbox was killed has no end; the next one began after its agent was gone.
    for (const of of runs.values()) {
      of.forEach(({ until }, at) => {
        const next = of[at + 1];
        if (until !== undefined && next !== undefined) expect(next.from).toBeGreaterThanOrEqual(until);
      });
    }
  });
});
