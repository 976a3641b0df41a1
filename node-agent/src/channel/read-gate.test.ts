import { describe, expect, it } from 'vitest';
import { ReadGate } from './read-gate.js';

describe('ReadGate', () => {
  it('lets the stream flow only while nobody holds it', () => {
    const stream = {
      flowing: true,
      pause: () => {
        stream.flowing = false;
      },
      resume: () => {
        stream.flowing = true;
      },
    };
    const gate = new ReadGate(stream);
    gate.hold('a');
    gate.hold('b');
    gate.hold('a');
    gate.release('a');
    expect(stream.flowing).toBe(false);
    gate.release('b');
    expect(stream.flowing).toBe(true);
  });
});
