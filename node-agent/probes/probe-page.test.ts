import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { PAGE, staticCells, TABLE_BEGIN, TABLE_END } from './probe-page.js';
import { PROBES } from './probe-table.js';

test('the page lists every probe as it is, and no other', async () => {
  const page = await readFile(PAGE, 'utf8');
  const table = page.split(TABLE_BEGIN)[1]?.split(TABLE_END)[0] ?? '';
  const rows = table.split('\n').filter((line) => /^\| [^\s|]/.test(line));
  expect(rows).toHaveLength(PROBES.length);
  for (const probe of PROBES) {
    const row = rows.find((line) => line.startsWith(staticCells(probe)));
    expect(row, probe.name).toBeDefined();
    expect(row?.endsWith(`| ${probe.withoutDefence?.removed ?? ''} |`), probe.name).toBe(true);
    expect(row, probe.name).not.toMatch(/FAIL|not run/);
  }
});

test('names are told apart, and at least ten probes are shown to fail', () => {
  expect(new Set(PROBES.map(({ name }) => name)).size).toBe(PROBES.length);
  expect(PROBES.filter(({ withoutDefence }) => withoutDefence !== undefined).length).toBeGreaterThan(10);
});
