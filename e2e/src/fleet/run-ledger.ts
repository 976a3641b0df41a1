import { readFile } from 'node:fs/promises';

/** One run of a handler, as it wrote it down itself, in a file that no process of the system writes or reads. */
export interface Run {
  readonly id: string;
  /** Of the machine's clock, milliseconds. */
  readonly from: number;
  /** Undefined: its sandbox died while it ran. */
  readonly until: number | undefined;
}

/**
 * Source of a handler that writes down each run of it in `file`: when it begins and when it ends. `body` is what it does, with
 * `event`, `context`, and `before`, the number of runs of the same id that began before this one.
 */
export function recordedHandler(file: string, body: string): string {
  return `
    import { appendFileSync, readFileSync } from 'node:fs';
    const file = ${JSON.stringify(file)};
    export const handler = async (event, context) => {
      const id = context.awsRequestId;
      const run = Math.random().toString(36).slice(2);
      const before = event.counts ? readFileSync(file, 'utf8').split('begin ' + id).length - 1 : 0;
      appendFileSync(file, 'begin ' + id + ' ' + run + ' ' + Date.now() + '\\n');
      try { ${body} } finally { appendFileSync(file, 'end ' + id + ' ' + run + ' ' + Date.now() + '\\n'); }
    };`;
}

/** Every run, by the id of its invocation, in the order of their beginnings. */
export async function readRuns(file: string): Promise<ReadonlyMap<string, readonly Run[]>> {
  const lines = (await readFile(file, 'utf8')).split('\n').filter((line) => line !== '');
  const ends = new Map<string, number>();
  for (const line of lines) {
    const [what, , run = '', at] = line.split(' ');
    if (what === 'end') ends.set(run, Number(at));
  }
  const runs = new Map<string, Run[]>();
  for (const line of lines) {
    const [what, id = '', run = '', at] = line.split(' ');
    if (what !== 'begin') continue;
    const one: Run = { id, from: Number(at), until: ends.get(run) };
    const before = runs.get(id);
    if (before === undefined) runs.set(id, [one]);
    else before.push(one);
  }
  return runs;
}
