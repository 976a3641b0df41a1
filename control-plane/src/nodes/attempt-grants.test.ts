import { describe, expect, it } from 'vitest';
import { type AttemptClaim, AttemptGrants } from './attempt-grants.js';

const CLAIM: AttemptClaim = { invocationId: 'i', epoch: 1, versionId: 'v', functionId: 'f', projectId: 'p' };

describe('AttemptGrants', () => {
  const grants = new AttemptGrants(Buffer.alloc(32, 1));
  const grant = grants.grant('node-1', CLAIM);

  it('holds for the node and the attempt that it was made for, at every replica', () => {
    expect(new AttemptGrants(Buffer.alloc(32, 1)).isGranted('node-1', { ...CLAIM, grant })).toBe(true);
  });

  it.each<[string, Partial<AttemptClaim>]>([
    ['invocation', { invocationId: 'j' }],
    ['attempt', { epoch: 2 }],
    ['version', { versionId: 'w' }],
    ['function', { functionId: 'g' }],
    ['project', { projectId: 'q' }],
    ['way to cut the words', { versionId: 'v\nf', functionId: 'p' }],
  ])('does not hold for another %s', (_, other) => {
    expect(grants.isGranted('node-1', { ...CLAIM, ...other, grant })).toBe(false);
  });

  it('does not hold for another node, under another secret, cut short, or when there is none', () => {
    expect(grants.isGranted('node-2', { ...CLAIM, grant })).toBe(false);
    expect(new AttemptGrants(Buffer.alloc(32, 2)).isGranted('node-1', { ...CLAIM, grant })).toBe(false);
    expect(grants.isGranted('node-1', { ...CLAIM, grant: grant.subarray(0, 15) })).toBe(false);
    expect(grants.isGranted('node-1', { ...CLAIM, grant: Buffer.alloc(0) })).toBe(false);
    expect(grants.isGranted('node-1', CLAIM)).toBe(false);
  });
});
