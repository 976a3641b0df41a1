import { AREAS, ISOLATIONS, type Probe, type ProbeIsolation } from './probe.js';

/** The page that lists all probes. */
export const PAGE = new URL('../../docs/sandbox-probes.md', import.meta.url);
export const TABLE_BEGIN = '<!-- probes: written by the suite, with LAMBDA_PROBES_PAGE=write -->';
export const TABLE_END = '<!-- end of probes -->';

const TITLES: Readonly<Record<Probe['area'], string>> = {
  files: 'Files',
  kernel: 'Kernel',
  network: 'Network',
  resources: 'Resources',
  sharing: 'Other functions',
  protocol: 'Channel and logs',
  realm: 'A job’s realm',
};

/** What the probes of one run came to. */
export class ProbeResults {
  readonly #held = new Map<string, boolean>();
  readonly #shown = new Map<string, boolean>();

  ran(probe: Probe, isolation: ProbeIsolation, held: boolean): void {
    this.#held.set(`${probe.name} ${isolation}`, held);
  }

  shownToFail(probe: Probe, isolation: ProbeIsolation, failed: boolean): void {
    this.#shown.set(`${probe.name} ${isolation}`, failed);
  }

  cell(probe: Probe, isolation: ProbeIsolation): string {
    const held = this.#held.get(`${probe.name} ${isolation}`);
    if (held === undefined) return 'not run';
    if (!held) return 'FAILED';
    const shown = this.#shown.get(`${probe.name} ${isolation}`);
    if (shown === undefined) return 'ok';
    return shown ? 'ok, shown to fail' : 'ok, CANNOT FAIL';
  }
}

/** The page's text with the table of these results. */
export function withTable(page: string, probes: readonly Probe[], results: ProbeResults): string {
  const [before = '', rest = ''] = page.split(TABLE_BEGIN);
  const [, after = ''] = rest.split(TABLE_END);
  return `${before}${TABLE_BEGIN}\n\n${areaTables(probes, results)}\n${TABLE_END}${after}`;
}

/** For people who watch the suite. */
export function textTable(probes: readonly Probe[], results: ProbeResults): string {
  const rows = probes.map((probe) => [probe.name, ...ISOLATIONS.map((isolation) => results.cell(probe, isolation))]);
  const all = [['probe', ...ISOLATIONS], ...rows];
  const widths = all[0]?.map((_, column) => Math.max(...all.map((row) => row[column]?.length ?? 0))) ?? [];
  return all.map((row) => row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('  ')).join('\n');
}

function areaTables(probes: readonly Probe[], results: ProbeResults): string {
  return AREAS.map((area) => {
    const rows = probes.filter((probe) => probe.area === area).map((probe) => pageRow(probe, results));
    const head = [
      '### ',
      TITLES[area],
      '\n\n| | what a function tries | what is judged | runc | gVisor | defence that was taken away |',
    ];
    return `${head.join('')}\n|---|---|---|---|---|---|\n${rows.join('\n')}\n`;
  }).join('\n');
}

function pageRow(probe: Probe, results: ProbeResults): string {
  const cells = ISOLATIONS.map((isolation) => results.cell(probe, isolation));
  return `${staticCells(probe)} ${cells.join(' | ')} | ${probe.withoutDefence?.removed ?? ''} |`;
}

/** What a probe's row begins with, whatever came of it. */
export function staticCells({ name, attempt, judge }: Probe): string {
  return `| ${name} | ${attempt} | ${judge} |`;
}
