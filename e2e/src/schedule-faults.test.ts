import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { killOne, seeded, type Victim } from './fleet/chaos.js';
import { Fleet } from './fleet/fleet.js';
import { readRuns, recordedHandler } from './fleet/run-ledger.js';
import { SecondControlPlane } from './fleet/second-control-plane.js';

const SEED = Number(process.env.LAMBDA_FAULT_SEED ?? Date.now() % 100_000);
const ROUNDS = Number(process.env.LAMBDA_FAULT_ROUNDS ?? 2);

interface Tick {
  readonly tickAt: string;
  readonly outcome: string;
  readonly count: number;
  readonly invocationId: string | null;
}

let fleet: Fleet | undefined;
let second: SecondControlPlane | undefined;
let folder = '';

afterEach(async () => {
  await second?.stop();
  second = undefined;
  await fleet?.dispose();
  fleet = undefined;
  await rm(folder, { recursive: true, force: true });
});

describe('a schedule of every second, two control planes, and everything killed', () => {
  it('ticks each second once, and each tick is one execution', { timeout: 600_000 }, async () => {
    const random = seeded(SEED);
    folder = await mkdtemp(join(tmpdir(), 'lf-faults-'));
    // Functions run as a user without rights.
    await chmod(folder, 0o711);
    const runsFile = join(folder, 'runs');
    await writeFile(runsFile, '');
    await chmod(runsFile, 0o666);
    fleet = await Fleet.start({ driver: 'process', env: { LAMBDA_UP_DEATHS_MAX: '100' } });
    const running = fleet;
    const source = recordedHandler(runsFile, 'return event.time;');
    expect((await running.api('PUT', '/api/functions/tick', { memoryMb: 128, code: { source } })).status).toBe(201);
    second = await SecondControlPlane.start(running);
    const schedule = { function: 'tick', expression: '* * * * * *', overlap: 'allow', catchUpMs: 600_000 };
    const made = await running.api('POST', '/api/schedules', { name: 'each-second', ...schedule });
    expect(made.status, made.text).toBe(201);

    const kills: string[] = [];
    for (let round = 0; round < ROUNDS; round += 1) {
      for (const victim of ['control plane', 'second', 'PostgreSQL', 'agent'] as const) {
        await sleep(1_000 + random() * 2_000);
        if (victim === 'second') second.kill();
        else await killOne(running, victim satisfies Victim);
        kills.push(victim);
      }
    }
    await sleep(3_000);
    expect((await running.api('POST', '/api/schedules/each-second/pause')).status).toBe(200);
    const waiting = async (): Promise<number> => {
      const { queued, running: now } = (await running.api('GET', '/api/queue')).json<{
        queued: number;
        running: number;
      }>();
      return queued + now;
    };
    await expect.poll(waiting, { timeout: 180_000, interval: 250 }).toBe(0);

    const { ticks } = (await running.api('GET', '/api/schedules/each-second/ticks?limit=1000')).json<{
      ticks: Tick[];
    }>();
    const seconds = ticks.map(({ tickAt }) => Date.parse(tickAt) / 1_000).sort((a, b) => a - b);
    const [first = 0, last = 0] = [seconds[0], seconds.at(-1)];
    const runs = await readRuns(runsFile);
    const { executions } = (await running.api('GET', '/api/executions?trigger=schedule&limit=1000')).json<{
      executions: { id: string; outcome: string }[];
    }>();
    process.stdout.write(
      `schedule faults, seed ${SEED}: ${kills.length} kills; ${last - first + 1} seconds, ${ticks.length} ticks, ` +
        `${executions.length} executions, ${[...runs.values()].flat().length} runs of ${runs.size}\n`,
    );
    // Each second of the time has one tick, and no second has two.
    expect(seconds).toEqual(Array.from({ length: last - first + 1 }, (_, n) => first + n));
    expect(ticks.map(({ outcome, count }) => [outcome, count])).toEqual(ticks.map(() => ['ran', 1]));
    // Each tick is one execution, and there are no others.
    const ids = ticks.map(({ invocationId }) => invocationId).sort();
    expect(new Set(ids).size).toBe(ticks.length);
    expect(executions.map(({ id }) => id).sort()).toEqual(ids);
    expect([...runs.keys()].sort()).toEqual(ids);
    expect(executions.filter(({ outcome }) => outcome !== 'success')).toEqual([]);
  });
});
