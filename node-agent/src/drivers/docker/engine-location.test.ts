import { expect, test } from 'vitest';
import { sharesKernel } from './engine-location.js';

test.each([
  ['Debian GNU/Linux 12 (bookworm)', 'linux', true],
  ['Ubuntu 24.04.2 LTS', 'linux', true],
  ['Docker Desktop', 'linux', false],
  ['Docker Desktop', 'darwin', false],
  ['Docker Desktop', 'win32', false],
  ['OrbStack', 'darwin', false],
] as const)('an engine on "%s", asked from %s, shares the kernel: %s', (operatingSystem, platform, expected) => {
  expect(sharesKernel(operatingSystem, platform)).toBe(expected);
});
