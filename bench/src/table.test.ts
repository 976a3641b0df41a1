import { expect, it } from 'vitest';
import { renderTable } from './table.js';

it('columns are aligned, figures to the right', () => {
  const table = renderTable([
    ['what', 'p50'],
    ['bare', '0.1'],
    ['warm call', '12.5'],
  ]);
  expect(table.split('\n')).toEqual(['what        p50', '─────────  ────', 'bare        0.1', 'warm call  12.5']);
});
