import { parseArgs } from 'node:util';
import { errorText } from '@lambda-fleet/common/errors';
import { benchInvoke, type InvokeFigures } from './invoke-bench.js';
import { renderTable } from './table.js';

const USAGE = `npm run bench -- invoke [--json] [--driver auto|docker|process] [--pairs N] [--calls N]

  invoke   warm calls through the API and the gateway, beside a bare node:http server measured in the same run

  --json     one JSON object on standard output instead of a table
  --driver   what makes the sandboxes (default auto: docker where an engine answers)
  --pairs    rounds, each measuring every target (default 5)
  --calls    calls of each target in a round (default 300)
`;

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      json: { type: 'boolean', default: false },
      driver: { type: 'string', default: 'auto' },
      pairs: { type: 'string', default: '5' },
      calls: { type: 'string', default: '300' },
    },
  });
  const { driver } = values;
  if (positionals.length !== 1 || positionals[0] !== 'invoke') throw new UsageError('Name one benchmark.');
  if (driver !== 'auto' && driver !== 'docker' && driver !== 'process') throw new UsageError(`No driver "${driver}".`);
  const interrupted = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => interrupted.abort(new Error(`${signal}: stopped before the end`)));
  }
  const figures = await benchInvoke({
    signal: interrupted.signal,
    driver,
    pairs: wholeNumber('--pairs', values.pairs),
    calls: wholeNumber('--calls', values.calls),
    onProgress: (line) => process.stderr.write(`bench: ${line}\n`),
  });
  process.stdout.write(values.json ? `${JSON.stringify(figures)}\n` : describeInvoke(figures));
}

class UsageError extends Error {}

function wholeNumber(flag: string, text: string): number {
  if (!/^[1-9]\d{0,5}$/.test(text)) throw new UsageError(`${flag} must be a whole number from 1.`);
  return Number(text);
}

function describeInvoke(figures: InvokeFigures): string {
  const { bare, api, gateway } = figures;
  const ms = (value: number) => value.toFixed(3);
  const row = (name: string, { p50, p50Range: [low, high], p99 }: typeof bare) => [
    name,
    ms(p50),
    `${ms(low)}–${ms(high)}`,
    ms(p99),
  ];
  const warmRow = (name: string, warm: typeof api) => [
    ...row(name, warm),
    ms(warm.runP50),
    warm.ratio.toFixed(2),
    ms(warm.addedMs),
    ms(warm.overBareMs),
  ];
  return [
    renderTable([
      ['milliseconds', 'p50', 'range of p50', 'p99', 'run', 'ratio', 'added', 'over bare'],
      [...row('bare node:http', bare), '', '', '', ''],
      warmRow('warm call, API', api),
      warmRow('warm call, gateway', gateway),
    ]),
    '',
    `${figures.pairs} interleaved rounds of ${figures.calls} calls, one client, every receipt warm; ` +
      `isolation ${figures.isolation.join(', ')}, ${figures.machine.cpus} cores, Node ${figures.machine.node}`,
    'added = p50 − run − p50 of the bare server; over bare = p50 − p50 of the bare server',
    '',
  ].join('\n');
}

try {
  await main();
} catch (error) {
  const isUsage = error instanceof UsageError || (error instanceof TypeError && 'code' in error);
  process.stderr.write(`bench: ${errorText(error)}\n${isUsage ? `\n${USAGE}` : ''}`);
  process.exitCode = isUsage ? 2 : 1;
}
