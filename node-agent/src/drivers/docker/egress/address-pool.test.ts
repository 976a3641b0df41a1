import { expect, test } from 'vitest';
import { AddressPool, overlaps, SUBNETS, subnetOf } from './address-pool.js';

test('subnets lie side by side in the range that is for measurements, and begin again at its end', () => {
  expect(subnetOf(0)).toEqual({ cidr: '198.18.0.0/22', gateway: '198.18.0.1' });
  expect(subnetOf(1)).toEqual({ cidr: '198.18.4.0/22', gateway: '198.18.4.1' });
  expect(subnetOf(SUBNETS - 1)).toEqual({ cidr: '198.19.252.0/22', gateway: '198.19.252.1' });
  expect(subnetOf(SUBNETS)).toEqual(subnetOf(0));
});

test('every address is had once, without those of the network, the gateway and the broadcast', () => {
  const pool = new AddressPool(subnetOf(0));
  const taken = new Set<string>();
  for (let address = pool.take(); address !== undefined; address = pool.take()) taken.add(address);
  expect(taken.size).toBe(1_021);
  expect(taken).toContain('198.18.0.2');
  expect(taken).toContain('198.18.3.254');
  for (const address of ['198.18.0.0', '198.18.0.1', '198.18.3.255']) expect(taken).not.toContain(address);
});

test('an address that is given back is the last to be used again', () => {
  const pool = new AddressPool(subnetOf(0));
  const first = pool.take() ?? '';
  pool.giveBack(first);
  const next: (string | undefined)[] = [];
  for (let count = 0; count < 1_021; count += 1) next.push(pool.take());
  expect(next.at(-1)).toBe(first);
  expect(next.indexOf(first)).toBe(1_020);
});

test.each([
  ['198.18.0.0/15', '198.18.4.0/22', true],
  ['198.18.4.7', '198.18.4.0/22', true],
  ['198.18.8.0/22', '198.18.4.0/22', false],
  ['198.20.0.0/15', '198.19.252.0/22', false],
  ['0.0.0.0/1', '198.18.0.0/22', false],
  ['128.0.0.0/1', '198.18.0.0/22', true],
])('%s overlaps %s: %s', (a, b, expected) => {
  expect(overlaps(a, b)).toBe(expected);
  expect(overlaps(b, a)).toBe(expected);
});
