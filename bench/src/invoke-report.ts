import type { Bench } from './bench.js';
import { benchInvoke, type InvokeFigures } from './invoke-bench.js';
import { renderTable } from './table.js';

export const invoke: Bench = {
  about: 'warm calls through the API and the gateway, beside a bare node:http server measured in the same run',
  counts: {
    pairs: { initial: 5, about: 'rounds, each measuring every target' },
    calls: { initial: 300, about: 'calls of each target in a round' },
  },
  run: async (options, { pairs = 0, calls = 0 }) => {
    const figures = await benchInvoke({ ...options, pairs, calls });
    return { figures, text: describe(figures) };
  },
};

function describe(figures: InvokeFigures): string {
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
      `isolation ${figures.isolation}, ${figures.machine.cpus} cores, Node ${figures.machine.node}`,
    'added = p50 − run − p50 of the bare server; over bare = p50 − p50 of the bare server',
    '',
  ].join('\n');
}
