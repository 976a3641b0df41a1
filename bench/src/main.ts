import { parseArgs } from 'node:util';
import { errorText } from '@lambda-fleet/common/errors';
import type { Bench } from './bench.js';
import { coldstart } from './coldstart-report.js';
import { invoke } from './invoke-report.js';
import { neighbours } from './neighbours-report.js';
import { queue } from './queue-report.js';
import { scale } from './scale-report.js';

const BENCHES: Readonly<Record<string, Bench>> = { invoke, coldstart, neighbours, queue, scale };

function usage(): string {
  const flags = Object.values(BENCHES).flatMap(({ counts }) => Object.entries(counts));
  return [
    'npm run bench -- <name> [--json] [--driver auto|docker|process] [flags]',
    '',
    ...Object.entries(BENCHES).map(([name, { about }]) => `  ${name.padEnd(10)} ${about}`),
    '',
    '  --json     one JSON object on standard output instead of a table',
    '  --driver   what makes the sandboxes (default auto: docker where an engine answers)',
    ...flags.map(([flag, { initial, about }]) => `  --${flag.padEnd(8)} ${about} (default ${initial})`),
    '',
  ].join('\n');
}

async function main(): Promise<void> {
  const [name = '', ...rest] = process.argv.slice(2);
  const bench = BENCHES[name];
  if (bench === undefined) throw new UsageError('Name one benchmark.');
  const { values } = parseArgs({
    args: rest,
    options: {
      json: { type: 'boolean', default: false },
      driver: { type: 'string', default: 'auto' },
      ...Object.fromEntries(Object.keys(bench.counts).map((flag) => [flag, { type: 'string' as const }])),
    },
  });
  const { driver } = values;
  if (driver !== 'auto' && driver !== 'docker' && driver !== 'process') throw new UsageError(`No driver "${driver}".`);
  const given = values as Readonly<Record<string, unknown>>;
  const counts = Object.fromEntries(
    Object.entries(bench.counts).map(([flag, { initial }]) => [
      flag,
      wholeNumber(flag, given[flag] ?? String(initial)),
    ]),
  );
  const interrupted = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => interrupted.abort(new Error(`${signal}: stopped before the end`)));
  }
  const onProgress = (line: string) => process.stderr.write(`bench: ${line}\n`);
  const { figures, text, failure } = await bench.run({ signal: interrupted.signal, driver, onProgress }, counts);
  process.stdout.write(values.json ? `${JSON.stringify(figures)}\n` : text);
  if (failure !== undefined) {
    process.stderr.write(`bench: missed: ${failure}\n`);
    process.exitCode = 1;
  }
}

class UsageError extends Error {}

function wholeNumber(flag: string, text: unknown): number {
  if (!/^[1-9]\d{0,6}$/.test(String(text))) throw new UsageError(`--${flag} must be a whole number from 1.`);
  return Number(text);
}

try {
  await main();
} catch (error) {
  const isUsage = error instanceof UsageError || (error instanceof TypeError && 'code' in error);
  process.stderr.write(`bench: ${errorText(error)}\n${isUsage ? `\n${usage()}` : ''}`);
  process.exitCode = isUsage ? 2 : 1;
}
