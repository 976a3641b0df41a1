import { randomBytes } from 'node:crypto';
import { chmod, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { SANDBOX_USER_FIRST } from '@lambda-fleet/common/sandbox-users';
import type { VersionSpec } from '@lambda-fleet/proto';
import { SandboxUsers } from '../src/drivers/docker/sandbox-users.js';
import { SandboxPool } from '../src/sandboxes/sandbox-pool.js';
import { HostUnderTest } from '../test-support/host-under-test.js';
import type { Ground } from './ground.js';
import { type Probe, replaceMethod, withHostConfig } from './probe.js';

/** Tells the marks that it found in its sandbox, and leaves its own. */
const MARKING = `
import { existsSync, readFileSync, appendFileSync } from 'node:fs';
export const handler = async ({ mark }) => {
  const found = existsSync('/tmp/marks') ? readFileSync('/tmp/marks', 'utf8').split(' ') : [];
  appendFileSync('/tmp/marks', mark + ' ');
  return [...new Set(found.filter(Boolean))];
};`;

export const sharingProbes: readonly Probe[] = [
  {
    name: 'nothing that a sandbox leaves is seen by another version, function or project',
    area: 'sharing',
    attempt:
      'leaves a secret in `/tmp`, `/dev/shm`, message queues, shared memory, keys, abstract sockets, arguments; another with the same code looks for it',
    judge: 'it is in nothing that the other one can read',
    async run(ground) {
      const mark = randomBytes(16).toString('hex');
      await sharedFolder(ground);
      const leaver = await ground.deployHostile({ keepRunning: true });
      await ground.attemptIn(leaver, 'leaving.leave', { mark });
      const others: Partial<VersionSpec>[] = [
        { versionId: `${leaver.versionId}-next`, versionNumber: 2 },
        { versionId: `${leaver.versionId}-other`, functionId: 'other', functionName: 'other', projectId: 'other' },
      ];
      const harms: string[] = [];
      for (const other of others) {
        const { said } = await ground.attemptIn({ ...leaver, ...other }, 'leaving.look', {
          reversed_mark: [...mark].reverse().join(''),
        });
        harms.push(...(said as readonly string[]).map((place) => `${other.versionId} found it in ${place}`));
      }
      return harms;
    },
    withoutDefence: {
      removed: 'a `/tmp` of its own: it is a folder of the host',
      isolations: ['runc', 'gvisor'],
      alter: (spec, ground) =>
        withHostConfig(spec, { Tmpfs: {}, Binds: [`${join(ground.node.directory, 'shared-tmp')}:/tmp:rw`] }),
    },
  },
  {
    name: 'a sandbox serves one version and one configuration, and a single-use one serves once',
    area: 'sharing',
    slow: true,
    attempt:
      'calls six versions sixty times at once and one after the other, with blanks to be had and sandboxes to be given up; every call marks its sandbox',
    judge: 'no call finds another version’s mark, and no sandbox has served two',
    async run(outer) {
      const node = await HostUnderTest.open('docker', { blanks: 4, slots: 10, memoryMb: 1_600 });
      try {
        return await mixCalls(outer.on(node));
      } finally {
        await node.close();
      }
    },
    withoutDefence: {
      removed: 'the pool’s key: the version that was asked for before gets this call’s sandbox',
      isolations: ['runc', 'gvisor'],
      replace: () => {
        const { openOf } = SandboxPool.prototype;
        let before = '';
        return replaceMethod(SandboxPool.prototype, 'openOf', function (this: SandboxPool, versionId, isolation) {
          const wrong = openOf.call(this, before, isolation);
          before = versionId;
          return wrong ?? openOf.call(this, versionId, isolation);
        });
      },
    },
  },
  {
    name: 'what the kernel counts for a user is not used up for others',
    area: 'sharing',
    attempt: 'takes every inotify instance, and as many descriptors in flight as it gets',
    judge: 'another function still gets some of both',
    async run(ground) {
      const greedy = await ground.deployHostile();
      await ground.attemptIn(greedy, 'kernel.take_limits_of_the_user');
      await ground.attemptIn(greedy, 'resources.pass_descriptors');
      const other = await ground.deployHostile();
      const watches = await ground.attemptIn(other, 'kernel.take_limits_of_the_user');
      const passed = await ground.attemptIn(other, 'resources.pass_descriptors');
      return [
        ...(watches.said.inotify > 8 ? [] : [`only ${watches.said.inotify} inotify instances were left`]),
        ...(passed.said['in flight'] > 8 ? [] : [`only ${passed.said['in flight']} descriptors could be passed`]),
      ];
    },
    withoutDefence: {
      removed: 'a user of its own',
      isolations: ['runc'],
      replace: () => replaceMethod(SandboxUsers.prototype, 'take', () => SANDBOX_USER_FIRST),
    },
  },
];

/** What takes the place of every sandbox's own `/tmp`. */
async function sharedFolder(ground: Ground): Promise<void> {
  const folder = join(ground.node.directory, 'shared-tmp');
  await mkdir(folder, { recursive: true });
  await chmod(folder, 0o1777);
}

/** Sixty calls of six versions, some of them single-use. */
async function mixCalls(ground: Ground): Promise<readonly string[]> {
  const versions = await Promise.all(
    Array.from({ length: 6 }, (_, at) =>
      ground.deploy(MARKING, { memoryMb: at % 2 === 0 ? 128 : 192, environment: { AT: String(at) } }),
    ),
  );
  const served = new Map<string, Set<string>>();
  const harms: string[] = [];
  const call = async (at: number): Promise<void> => {
    const version = versions[at % versions.length] as VersionSpec;
    const singleUse = at % 7 === 0;
    const mark = singleUse ? `once-${at}` : version.versionId;
    const end = await ground.call(version, { event: { mark }, singleUse });
    const found = JSON.parse(end.text) as readonly string[];
    if (found.some((one) => one !== mark)) harms.push(`${mark} found the marks ${found}`);
    const marks = served.get(end.receipt?.sandboxId ?? '') ?? new Set();
    served.set(end.receipt?.sandboxId ?? '', marks.add(mark));
  };
  for (let round = 0; round < 5; round += 1) {
    await Promise.all(Array.from({ length: 6 }, (_, at) => call(round * 12 + at)));
    for (let at = 6; at < 12; at += 1) await call(round * 12 + at);
  }
  const shared = [...served].filter(([, marks]) => marks.size > 1);
  return [...harms, ...shared.map(([sandbox, marks]) => `${sandbox} served ${[...marks]}`)];
}
