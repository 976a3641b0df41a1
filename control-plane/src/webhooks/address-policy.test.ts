import { describe, expect, it } from 'vitest';
import { AddressPolicy } from './address-policy.js';

describe('where webhooks may go', () => {
  it.each([
    ['this host', '0.0.0.0', '0.1.2.3', '::', '0:0:0:0:0:0:0:0'],
    ['loopback', '127.0.0.1', '127.255.255.254', '::1', '0:0:0:0:0:0:0:1'],
    ['private networks', '10.0.0.1', '10.255.255.255', '172.16.0.1', '172.31.255.255', '192.168.1.1'],
    ['private networks of IPv6', 'fc00::1', 'fd12:3456:789a::1', 'fec0::1'],
    ['carrier-grade NAT', '100.64.0.1', '100.127.255.255'],
    ['link-local', '169.254.0.1', 'fe80::1', 'FE80::1', 'febf::1'],
    ['cloud metadata', '169.254.169.254', '169.254.170.2', '100.100.100.200', 'fd00:ec2::254', '192.0.0.192'],
    [
      'documentation and benchmarks',
      '192.0.2.1',
      '198.51.100.1',
      '203.0.113.1',
      '198.18.0.1',
      '2001:db8::1',
      '3fff::1',
    ],
    ['multicast, reserved, broadcast', '224.0.0.1', '239.255.255.250', '240.0.0.1', '255.255.255.255', 'ff02::1'],
    ['loopback as mapped IPv4', '::ffff:127.0.0.1', '::ffff:7f00:1', '::FFFF:7F00:0001', '0:0:0:0:0:ffff:7f00:1'],
    [
      'more mapped IPv4',
      '::ffff:a9fe:a9fe',
      '::ffff:10.0.0.1',
      '::ffff:0:0',
      '0000:0000:0000:0000:0000:ffff:c0a8:0101',
    ],
    ['IPv4 in other IPv6', '::127.0.0.1', '::7f00:1', '::ffff:0:127.0.0.1', '2001:0:7f00:1::1', '2002:7f00:1::'],
    ['IPv4 behind NAT64', '64:ff9b::127.0.0.1', '64:ff9b::7f00:1', '64:ff9b::8.8.8.8', '64:ff9b:1::a00:1'],
    ['a zone', 'fe80::1%eth0', '2606:4700::1111%1', '::1%lo'],
    ['what is no address', '', 'localhost', '127.1', '2130706433', '0x7f.1', '1.2.3', '[::1]', '1.2.3.4/8'],
  ])('%s is refused', (_what, ...addresses) => {
    const policy = new AddressPolicy();
    expect(addresses.filter((address) => policy.permits(address))).toEqual([]);
  });

  it.each([
    ['IPv4', '1.1.1.1', '8.8.8.8', '9.255.255.255', '11.0.0.0', '100.63.255.255', '100.128.0.0', '126.255.255.255'],
    ['more IPv4', '128.0.0.1', '169.253.255.255', '172.15.255.255', '172.32.0.0', '192.167.1.1', '223.255.255.254'],
    ['IPv6', '2606:4700:4700::1111', '2a00:1450:4001:800::200e', '2001:4860:4860::8888', '2400:CB00::1'],
    ['mapped IPv4', '::ffff:8.8.8.8', '::ffff:808:808', '0:0:0:0:0:FFFF:0808:0808'],
  ])('public %s is let in', (_what, ...addresses) => {
    const policy = new AddressPolicy();
    expect(addresses.filter((address) => !policy.permits(address))).toEqual([]);
  });

  it('lets in what an operator names, in every spelling, and nothing beside it', () => {
    const policy = new AddressPolicy(['10.1.0.0/16', '127.0.0.1', 'fd00:1::/32']);
    const allowed = [
      '10.1.0.0',
      '10.1.255.255',
      '::ffff:a01:1',
      '::ffff:10.1.0.1',
      '127.0.0.1',
      'fd00:1::5',
      '8.8.8.8',
    ];
    expect(allowed.filter((address) => !policy.permits(address))).toEqual([]);
    const refused = ['10.0.255.255', '10.2.0.0', '::ffff:a02:1', '127.0.0.2', 'fd00:2::5', '::1', '169.254.169.254'];
    expect(refused.filter((address) => policy.permits(address))).toEqual([]);
  });

  it.each(['10.1.0.0/33', '10.1.0.0/', '10.1.0.0/-1', '10.1.0.0/1.5', '10.1/16', 'fd00::/129', 'intranet', '', '/8'])(
    '%j is no network, and that is said',
    (network) => {
      expect(() => new AddressPolicy([network])).toThrow('is not a network like 10.1.0.0/16');
    },
  );
});
