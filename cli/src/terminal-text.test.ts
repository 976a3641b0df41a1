import { describe, expect, it } from 'vitest';
import { bytesText, durationText, printable } from './terminal-text.js';

describe('printable', () => {
  it.each([
    ['\u001b[31mred\u001b[0m', 'red'],
    ['\u001b]0;title\u0007text', 'text'],
    ['\u001b]8;;http://x\u001b\\link\u001b]8;;\u001b\\', 'link'],
    ['safe\roverwritten', 'safeoverwritten'],
    ['bell\u0007 back\b delete\u007f csi\u009b31m', 'bell back delete csi'],
    ['reversed \u202etxt', 'reversed txt'],
    ['tab\tand\nline stay', 'tab\tand\nline stay'],
    ['žluťoučký 🐎', 'žluťoučký 🐎'],
  ])('makes %j harmless', (text, expected) => {
    expect(printable(text)).toBe(expected);
  });
});

describe('figures', () => {
  it('are written for people', () => {
    expect([bytesText(812), bytesText(3_500), bytesText(50 * 1024 * 1024)]).toEqual(['812 B', '3.4 KB', '50.0 MB']);
    expect([durationText(850), durationText(12_345), durationText(125_000)]).toEqual(['850 ms', '12.3 s', '2 m 5 s']);
  });
});
