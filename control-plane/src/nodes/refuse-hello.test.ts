import { randomUUID } from 'node:crypto';
import type { Hello } from '@lambda-fleet/proto';
import { describe, expect, it } from 'vitest';
import { refuseHello } from './refuse-hello.js';

const HELLO: Hello = {
  ...{ protocolMin: 1, protocolMax: 2, agentVersion: '0.1.0', bootId: randomUUID(), labels: { zone: 'a' } },
  ...{ runtimes: [{ name: 'nodejs', digest: 'sha256:1' }], isolation: ['runc', 'gvisor'], architecture: 'x64' },
  ...{ networks: ['none'], builds: false, running: [], keptResults: [], selfTest: [], capacity: undefined },
};

describe('a Hello', () => {
  it('of an honest agent is taken', () => {
    expect(refuseHello(HELLO, false)).toBeUndefined();
  });

  it('of a node without isolation is taken in development only', () => {
    const open = { ...HELLO, isolation: ['none'] };
    expect(refuseHello(open, true)).toBeUndefined();
    expect(refuseHello(open, false)).toContain('development');
  });

  it.each<[string, Partial<Hello>]>([
    ['a start that is no UUID', { bootId: 'x\0' }],
    ['a zero byte in a label', { labels: { zone: 'a\0' } }],
    ['a label without end', { labels: { ['z'.repeat(300)]: 'a' } }],
    ['labels without number', { labels: Object.fromEntries(Array.from({ length: 65 }, (_, n) => [`l${n}`, ''])) }],
    ['a runtime without end', { runtimes: [{ name: 'n'.repeat(300), digest: '' }] }],
    ['isolation kinds without number', { isolation: Array.from({ length: 65 }, () => 'runc') }],
    ['a version that moves the cursor', { agentVersion: '\u001b[2J' }],
  ])('with %s is refused', (_, said) => {
    expect(refuseHello({ ...HELLO, ...said }, true)).toContain('no agent says');
  });
});
