import { readFile } from 'node:fs/promises';
import { Outcome } from '@lambda-fleet/proto';
import type { Ground } from './ground.js';
import type { Probe } from './probe.js';

/** Functions that harm whom they can, which the benchmark `neighbours` runs too. */
const FOLDER = new URL('hostile/neighbours/', import.meta.url);

interface Hostile {
  readonly name: string;
  readonly file: string;
  readonly event?: object;
  /** Default 2 s. */
  readonly timeoutMs?: number;
  /** Error types that a call of it ends with; empty is a result. */
  readonly ends: readonly string[];
}

export const neighbourProbes: readonly Probe[] = [
  {
    name: 'a neighbour is answered whatever others do, and each of them gets the error that is due',
    area: 'resources',
    slow: true,
    attempt:
      'at the same time: a fork bomb, two memory hogs, two spinners, log floods of lines, of one line and past the runtime, ignored signals, an exit, forged frames, disk flushes',
    judge: 'every call of a neighbour meanwhile is answered; each of the others ends with the right error',
    async run(ground) {
      const neighbour = await ground.deploy('export const handler = async () => "answered";');
      await ground.call(neighbour);
      const hostiles = JSON.parse(await readFile(new URL('neighbours.json', FOLDER), 'utf8')) as readonly Hostile[];
      let over = false;
      const harming = Promise.all(hostiles.map((hostile) => harm(ground, hostile))).finally(() => {
        over = true;
      });
      const harms: string[] = [];
      while (!over) {
        const end = await ground.call(neighbour);
        if (end.outcome !== Outcome.SUCCESS) harms.push(`the neighbour’s call ended as ${end.error?.errorType}`);
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      return [...harms, ...(await harming).flat()];
    },
  },
];

async function harm(ground: Ground, { name, file, event = {}, timeoutMs = 2_000, ends }: Hostile): Promise<string[]> {
  const python = file.endsWith('.py');
  const source = await readFile(new URL(file, FOLDER), 'utf8');
  const spec = await ground.deploy(
    { [python ? 'main.py' : 'index.mjs']: source },
    { ...(python ? { runtime: 'python', handler: 'main.handler' } : {}), timeoutMs, initTimeoutMs: 2_000 },
  );
  const end = await ground.call(spec, { event });
  const actual = end.error?.errorType ?? '';
  return ends.includes(actual) ? [] : [`${name} ended with ${actual || end.text} ${end.error?.errorMessage}`];
}
