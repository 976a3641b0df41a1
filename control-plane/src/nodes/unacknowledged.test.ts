import type { LogBatch, ResponseEnd } from '@lambda-fleet/proto';
import { describe, expect, it } from 'vitest';
import { Unacknowledged } from './unacknowledged.js';

const result = (invocationId: string, bytes = 0) =>
  ({ invocationId, epoch: 1, body: Buffer.alloc(bytes), error: undefined }) as unknown as ResponseEnd;
const batch = (sequence: number, characters: number) =>
  ({ sequence, lines: [{ text: 'x'.repeat(characters) }] }) as unknown as LogBatch;

describe('Unacknowledged', () => {
  it('takes all that an agent keeps, again and again, as long as it is acknowledged', () => {
    const held = new Unacknowledged();
    for (let round = 0; round < 5; round += 1) {
      const refs = Array.from({ length: 10_000 }, (_, i) => ({ invocationId: `${round}-${i}`, epoch: 1 }));
      expect(refs.every(({ invocationId }) => held.addResult(result(invocationId)))).toBe(true);
      held.removeResults(refs);
    }
    for (let sequence = 1; sequence <= 500; sequence += 1) {
      expect(held.addLogs(batch(sequence, 1_000_000))).toBe(true);
      if (sequence % 30 === 0) held.removeLogs(sequence);
    }
  });

  it('says when an agent sends without end, one result or many', () => {
    const many = new Unacknowledged();
    const again = new Unacknowledged();
    const large = new Unacknowledged();
    const taken = { many: 0, again: 0, large: 0 };
    while (many.addResult(result(`${taken.many}`))) taken.many += 1;
    while (again.addResult(result('the same'))) taken.again += 1;
    const body = Buffer.alloc(32_768);
    while (large.addResult({ ...result(`${taken.large}`), body })) taken.large += 1;
    expect(taken).toMatchObject({ many: 20_000, again: 20_000 });
    expect(taken.large).toBeLessThan(4_096);
  });

  it('says when an agent sends lines without end, of any length', () => {
    const long = new Unacknowledged();
    const empty = new Unacknowledged();
    let sequence = 0;
    while (long.addLogs(batch(sequence, 1_000_000))) sequence += 1;
    expect(sequence).toBeLessThan(70);
    sequence = 0;
    while (empty.addLogs({ sequence: 0, lines: [] })) sequence += 1;
    expect(sequence).toBeLessThanOrEqual(100_000);
  });

  it('does not count what is acknowledged that was not sent', () => {
    const held = new Unacknowledged();
    held.removeResults([{ invocationId: 'never sent', epoch: 1 }]);
    held.removeLogs(7);
    let taken = 0;
    while (held.addResult(result(`${taken}`))) taken += 1;
    expect(taken).toBe(20_000);
  });
});
