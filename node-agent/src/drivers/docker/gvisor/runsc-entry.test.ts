import { describe, expect, test } from 'vitest';
import { checkRunscArguments, checkRunscVersion, type RunscDemands } from './runsc-entry.js';

const OWN_SOCKETS: RunscDemands = { network: 'none', hostSockets: true };

function problems(args: readonly string[], demands: RunscDemands): readonly string[] {
  return checkRunscArguments({ path: '/usr/bin/runsc', args }, demands).map(
    ({ severity, problem }) => `${severity}: ${problem}`,
  );
}

describe('the arguments of an entry', () => {
  test.each([
    ['of an old release', ['--platform=ptrace', '--network=none', '--fsgofer-host-uds']],
    ['of a new release', ['--network=none', '--host-uds=open']],
    ['with values apart', ['-network', 'none', '--host-uds', 'all']],
    ['of which the last counts', ['--network=host', '--network=none', '--host-uds=none', '--host-uds=open']],
  ])('%s are right', (_what, args) => {
    expect(problems(args, OWN_SOCKETS)).toEqual([]);
  });

  test.each([
    ['no host sockets', ['--network=none'], /^failed: sandboxes may not open/],
    [
      'host sockets that are switched off',
      ['--network=none', '--fsgofer-host-uds=false'],
      /^failed: sandboxes may not/,
    ],
    ['sockets that may only be made', ['--network=none', '--host-uds=create'], /^failed: sandboxes may not/],
    ['the network of the host', ['--network=host', '--host-uds=open'], /^failed: --network=host/],
    ['a network of its own', ['--host-uds=open'], /^warning: --network=sandbox/],
    ['no limits', ['--network=none', '--host-uds=open', '--ignore-cgroups'], /^failed: --ignore-cgroups/],
    ['no root', ['--network=none', '--host-uds=open', '--rootless=true'], /^failed: --rootless/],
  ])('with %s are said to be wrong', (_what, args, problem) => {
    expect(problems(args, OWN_SOCKETS)).toEqual([expect.stringMatching(problem)]);
  });

  test('of an entry with a network must give it gVisor’s own stack', () => {
    const demands: RunscDemands = { network: 'sandbox', hostSockets: false };
    expect(problems(['--network=sandbox'], demands)).toEqual([]);
    expect(problems([], demands)).toEqual([]);
    expect(problems(['--network=host'], demands)).toEqual([expect.stringMatching(/^failed: --network=host/)]);
    expect(problems(['--network=none'], demands)).toEqual([expect.stringMatching(/^failed: --network=none/)]);
  });

  test('need no host sockets where frames travel over the engine', () => {
    expect(problems(['--network=none'], { network: 'none', hostSockets: false })).toEqual([]);
  });
});

describe('a release', () => {
  test.each(['0.0~20221219.0', 'release-20240212.0', 'release-20260105.0-3-gabcdef'])('%s is new enough', (version) => {
    expect(checkRunscVersion(version)).toEqual([]);
  });

  test('that is older than the floor is refused, and one without a date is to be looked at', () => {
    expect(checkRunscVersion('release-20210208.0')).toMatchObject([{ severity: 'failed' }]);
    expect(checkRunscVersion('VERSION_MISSING')).toMatchObject([{ severity: 'warning' }]);
  });
});
