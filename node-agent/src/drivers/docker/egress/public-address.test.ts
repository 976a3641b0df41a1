import { expect, test } from 'vitest';
import { isPublicAddress } from './public-address.js';

test.each([
  '1.1.1.1',
  '9.255.255.255',
  '11.0.0.0',
  '100.63.255.255',
  '100.128.0.0',
  '168.63.129.17',
  '172.15.0.1',
  '172.32.0.0',
  '192.167.1.1',
  '198.17.1.1',
  '198.20.0.0',
  '203.0.113.1',
  '223.255.255.255',
])('%s is public', (address) => expect(isPublicAddress(address)).toBe(true));

test.each([
  ['this host', '0.0.0.0'],
  ['private', '10.255.255.255'],
  ['private', '172.16.0.1'],
  ['private', '172.31.255.255'],
  ['private', '192.168.0.1'],
  ['carrier-grade NAT', '100.64.0.1'],
  ['a cloud’s metadata there', '100.100.100.200'],
  ['loopback', '127.8.9.10'],
  ['metadata', '169.254.169.254'],
  ['another metadata', '192.0.0.192'],
  ['a cloud’s own services', '168.63.129.16'],
  ['a sandbox', '198.18.4.5'],
  ['multicast', '224.0.0.251'],
  ['reserved', '240.0.0.1'],
  ['broadcast', '255.255.255.255'],
  ['loopback of IPv6', '::1'],
  ['metadata over IPv6', 'fd00:ec2::254'],
  ['mapped IPv4', '::ffff:10.0.0.1'],
  ['mapped public IPv4, which no record holds', '::ffff:1.1.1.1'],
  ['public IPv6, which sandboxes do not have', '2606:4700::1111'],
  ['a number in octal', '0177.0.0.1'],
  ['a number in one piece', '2130706433'],
  ['no address', 'example.com'],
])('%s (%s) is not', (_what, address) => expect(isPublicAddress(address)).toBe(false));
