/** The phases of an invocation in the order in which they come, as the receipt names them without their `Ms`. */
const PHASES = ['resolve', 'receive', 'admit', 'place', 'queue', 'sandbox', 'init', 'run'] as const;

/** Columns of the whole time. */
const WIDTH = 40;

/**
 * One line per phase that took time: its name, its milliseconds and a bar that begins where the one before ended. What no
 * phase accounts for, the ways to the node and back most of all, is `other`. Empty when nothing is known.
 */
export function renderWaterfall(receipt: Readonly<Record<string, unknown>>): string {
  const took = (phase: string): number => {
    const ms = receipt[`${phase}Ms`];
    return typeof ms === 'number' && ms > 0 ? ms : 0;
  };
  const phases: (readonly [string, number])[] = PHASES.map((phase) => [phase, took(phase)] as const);
  const known = phases.reduce((sum, [, ms]) => sum + ms, 0);
  // Of one whose caller was gone there is no total.
  const total = Math.max(took('total'), known);
  if (total === 0) return '';
  const lines = [...phases, ['other', total - known] as const].filter(([, ms]) => ms >= 0.005);
  let before = 0;
  const rendered = [...lines, ['total', total] as const].map(([phase, ms]) => {
    const from = phase === 'total' ? 0 : Math.round((before / total) * WIDTH);
    const to = Math.round((((phase === 'total' ? 0 : before) + ms) / total) * WIDTH);
    before += ms;
    const bar = to > from ? '█'.repeat(to - from) : '▏';
    return `${phase.padEnd(8)}${ms.toFixed(2).padStart(12)} ms  ${' '.repeat(Math.min(from, WIDTH - 1))}${bar}\n`;
  });
  return rendered.join('');
}
