import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { SHOWN_ELSEWHERE } from './shown-elsewhere.mjs';

const repository = fileURLToPath(new URL('../..', import.meta.url));

describe('faults that are shown elsewhere', () => {
  it.each(SHOWN_ELSEWHERE)('%s is shown by a test that is there: %s', (_fault, file, name) => {
    // The first argument of a test, or of what `each` returns.
    expect(readFileSync(join(repository, file), 'utf8')).toMatch(new RegExp(`\\(\\s*['"\`]${name}`));
  });
});
