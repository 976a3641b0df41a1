import { randomInt } from 'node:crypto';
import { Outcome, type VersionSpec } from '@lambda-fleet/proto';
import { expect } from 'vitest';
import { DockerSandbox } from '../src/drivers/docker/docker-sandbox.js';
import { Sandbox } from '../src/sandboxes/sandbox.js';
import type { Ended } from '../test-support/host-under-test.js';
import type { Attempt, Ground } from './ground.js';
import { asRoot, type Probe, replaceMethod, withHostConfig } from './probe.js';

const MB = 1024 * 1024;
const DESCRIPTORS_MAX = 1024;

/** The agent sets limits again once a sandbox has its function. */
const leaveLimits = () => replaceMethod(DockerSandbox.prototype, 'setLimits', () => {});

export const resourceProbes: readonly Probe[] = [
  {
    name: 'a fork bomb ends at its limit of processes',
    area: 'resources',
    attempt: 'forks until it is refused, and keeps all children',
    judge: 'the host counts no more processes in its group than the limit, and none when it has been stopped',
    run: (ground) => countProcesses(ground, 'resources.fork_bomb'),
    withoutDefence: {
      removed: 'the limit of processes',
      isolations: ['runc'],
      alter: (spec) => withHostConfig(spec, { PidsLimit: -1 }),
    },
  },
  {
    name: 'a thread bomb ends at its limit of processes',
    area: 'resources',
    attempt: 'starts threads until it is refused, and keeps all',
    judge: 'the host counts no more processes in its group than the limit, and none when it has been stopped',
    run: (ground) => countProcesses(ground, 'resources.thread_bomb'),
    withoutDefence: {
      removed: 'the limit of processes',
      isolations: ['runc'],
      alter: (spec) => withHostConfig(spec, { PidsLimit: -1 }),
    },
  },
  {
    name: 'a function that has taken every process can still answer',
    area: 'resources',
    attempt: 'forks until it is refused, asks for a thread, and returns a result',
    judge: 'the result is there, or the sandbox ended with an error of the function; the host stops all of it',
    async run(ground) {
      const spec = await ground.deployHostile();
      const end = await ground.call(spec, { event: { attempt: 'resources.fill_processes_then_answer' } });
      await ground.attemptIn(await ground.deployHostile(), 'trying.tidy');
      return end.error === undefined || end.outcome === Outcome.FUNCTION_ERROR ? [] : [`it ended as ${end.outcome}`];
    },
  },
  {
    name: 'descriptors end at their limit',
    area: 'resources',
    attempt: 'raises its limit and opens files until it is refused',
    judge: 'none of its processes on the host has more than 1024 open; gVisor’s kernel no more than twice as many',
    async run(ground) {
      const attempt = await ground.attempt('resources.descriptors');
      const counts = (await ground.processes(attempt)).map(({ descriptors }) => descriptors.length);
      const most = ground.isolation === 'gvisor' ? 2 * DESCRIPTORS_MAX : DESCRIPTORS_MAX;
      return counts.filter((count) => count > most).map((count) => `${count} descriptors are open`);
    },
    withoutDefence: {
      removed: 'the limit of descriptors',
      isolations: ['runc'],
      alter: (spec) => withHostConfig(spec, { Ulimits: [{ Name: 'nofile', Soft: 8_192, Hard: 8_192 }] }),
    },
  },
  {
    name: 'bytes in files count as its memory, and none reach a disk',
    area: 'resources',
    attempt: 'writes 400 MB to `/tmp`, `/dev/shm`, `/dev`, its code’s folder, the root, `/run` and the message queues',
    judge: 'the engine sees not a byte in the container’s layer; its group never held more than its memory',
    async run(ground) {
      const { container, spec } = await ground.begin();
      const end = await ground.call(spec, { event: { attempt: 'resources.fill', with: { megabytes: 400 } } });
      const info = await ground.docker
        .getContainer(container)
        .inspect({ size: true } as object)
        .catch(() => undefined);
      const bytes = (info as { readonly SizeRw?: number } | undefined)?.SizeRw ?? 0;
      return [...(bytes > 0 ? [`${bytes} bytes were written to a disk`] : []), ...overMemory(end, spec)];
    },
    withoutDefence: {
      removed: 'read-only root, files in memory',
      // gVisor keeps an empty /tmp in its own memory by itself.
      isolations: ['runc'],
      alter: (spec) => asRoot(spec, { ReadonlyRootfs: false, Tmpfs: {} }),
    },
  },
  {
    name: 'names of files count as its memory, and none reach a disk',
    area: 'resources',
    slow: true,
    attempt: 'makes 70,000 empty files and one of 4 TB without bytes in `/tmp`',
    judge: 'the engine sees no file in the container’s layer; its group never held more than its memory',
    async run(ground) {
      const { container, spec } = await ground.begin();
      const count = ground.unprotected ? 10 : 70_000;
      const end = await ground.call(spec, { event: { attempt: 'resources.empty_files', with: { count } } });
      const changes = await ground.docker
        .getContainer(container)
        .changes()
        .catch(() => []);
      const made = ((changes ?? []) as readonly { readonly Path: string }[]).filter(({ Path }) =>
        Path.startsWith('/tmp/'),
      );
      return [...(made.length > 0 ? [`${made.length} files were made on a disk`] : []), ...overMemory(end, spec)];
    },
    withoutDefence: {
      removed: 'read-only root, files in memory',
      // gVisor keeps an empty /tmp in its own memory by itself.
      isolations: ['runc'],
      alter: (spec) => asRoot(spec, { ReadonlyRootfs: false, Tmpfs: {} }),
    },
  },
  {
    name: 'shared memory ends with its sandbox and is nobody else’s',
    area: 'resources',
    attempt: 'makes a System V segment, and files in `/dev/shm`',
    judge: 'the host has no such segment',
    async run(ground) {
      const key = randomInt(1, 2 ** 31 - 1);
      const attempt = await ground.attempt('resources.shared_memory', { key, megabytes: 8 });
      const has = async () => new RegExp(`^\\s*${key} `, 'm').test(await ground.host.sharedMemory());
      const found = await has();
      if (found) await ground.attempt('resources.remove_shared_memory', { key });
      return found ? [`segment ${attempt.said.segment} is the host’s`] : [];
    },
    withoutDefence: {
      removed: 'an IPC namespace of its own',
      isolations: ['runc'],
      alter: (spec) => withHostConfig(spec, { IpcMode: 'host' }),
    },
  },
  {
    name: 'more memory than allowed ends it, and says so',
    area: 'resources',
    slow: true,
    attempt: 'keeps 500 MB where 128 are allowed: in its own process, in a child, and in V8’s heap',
    judge:
      'the error is `Runtime.OutOfMemory` wherever the runtime itself was the one; its group never held more than its memory',
    async run(ground) {
      const { spec } = await ground.begin();
      const end = await ground.call(spec, { event: { attempt: 'resources.memory', with: { megabytes: 500 } } });
      const heap = await ground.deploy(
        'export const handler = () => { const all = []; for (;;) all.push({ all: [] }); };',
      );
      const ends = [end, ...(ground.unprotected ? [] : [await ground.call(heap)])];
      return [...ends.flatMap((one) => errorOtherThan(one, 'Runtime.OutOfMemory')), ...overMemory(end, spec)];
    },
    withoutDefence: {
      removed: 'the limit of memory',
      isolations: ['runc'],
      alter: (spec) => withHostConfig(spec, { Memory: 0, MemorySwap: 0 }),
      replace: leaveLimits,
    },
  },
  {
    name: 'a child that is killed for its memory takes nothing else with it',
    area: 'resources',
    attempt: 'lets a child keep 500 MB where 128 are allowed',
    judge: 'the call ends with a result, or with `Runtime.OutOfMemory` where the whole sandbox goes',
    async run(ground) {
      const { spec } = await ground.begin();
      const end = await ground.call(spec, {
        event: { attempt: 'resources.memory_in_child', with: { megabytes: 500 } },
      });
      return end.error === undefined ? [] : errorOtherThan(end, 'Runtime.OutOfMemory');
    },
  },
  {
    name: 'processor time ends at its quota',
    area: 'resources',
    attempt: 'spins in four processes, with half a processor',
    judge: 'the host’s scheduler held the group back',
    async run(ground) {
      const spec = await ground.deployHostile({ cpus: 0.5 });
      const before = await ground.cgroup(await ground.attemptIn(spec, 'trying.tidy'));
      const attempt = await ground.attemptIn(spec, 'resources.spin', { seconds: 0.5, processes: 4 });
      const { throttled } = await ground.cgroup(attempt);
      return throttled > before.throttled ? [] : ['it was never held back'];
    },
    withoutDefence: {
      removed: 'the quota',
      isolations: ['runc'],
      alter: (spec) => withHostConfig(spec, { CpuQuota: 0 }),
      replace: leaveLimits,
    },
  },
  {
    name: 'ignoring signals and leaving its session does not keep anything alive',
    area: 'resources',
    attempt: 'ignores and blocks every signal, in children with sessions of their own, and never returns',
    judge: 'the error is `Sandbox.Timedout`, and no process of it is left on the host',
    async run(ground) {
      const { spec, ...attempt } = await ground.begin({ timeoutMs: 700 });
      const end = await ground.call(spec, { event: { attempt: 'resources.refuse_to_end' } });
      await until(ground, async () => (await ground.processes(attempt)).length === 0);
      const left = await ground.processes(attempt);
      // Where its defence is gone, nobody else does it.
      if (ground.unprotected) await ground.docker.getContainer(attempt.container).remove({ force: true });
      await ground.gone(attempt);
      return [...errorOtherThan(end, 'Sandbox.Timedout'), ...left.map(({ name }) => `${name} is left`)];
    },
    withoutDefence: {
      removed: 'the engine’s kill: the agent believes that closing the channel is enough',
      isolations: ['runc', 'gvisor'],
      replace: onlyHangUp,
    },
  },
  {
    name: 'nothing goes on after the result',
    area: 'resources',
    attempt: 'leaves a child in a session of its own that spins',
    judge: 'a moment after the result its group’s processor time stands still',
    async run(ground) {
      const spec = await ground.deployHostile();
      const attempt = await ground.attemptIn(spec, 'resources.work_after_result');
      const used = async () => (await ground.cgroup(attempt)).processorUs;
      let last = -1;
      const still = await until(ground, async () => {
        const before = last;
        last = await used();
        return before === last;
      });
      return still ? [] : [`it used ${last} µs and more`];
    },
    withoutDefence: {
      removed: 'the freezer',
      isolations: ['runc', 'gvisor'],
      replace: () => replaceMethod(Sandbox.prototype, 'freeze', () => {}),
    },
  },
  {
    name: 'an end without a result is never a success',
    area: 'resources',
    slow: true,
    attempt: 'exits with 0, 3 and 137, aborts, faults, kills itself, and kills or stops the container’s first process',
    judge:
      'the error is `Runtime.ExitError` each time, or a timeout where everything stands still; nothing of it is left',
    async run(ground) {
      const harms: string[] = [];
      for (const way of WAYS_TO_END) {
        const spec = await ground.deployHostile({ timeoutMs: 1_000 });
        const end = await ground.call(spec, { event: way });
        const ok = ['Runtime.ExitError', 'Sandbox.Timedout'].includes(end.error?.errorType ?? '');
        // Where the first process cannot be harmed, the function says so.
        const survived = end.text === '"process 1 lives"';
        if (!ok && !survived) harms.push(`${JSON.stringify(way)} ended as ${end.error?.errorType ?? end.text}`);
      }
      return harms;
    },
  },
  {
    name: 'arguments and environments of any length harm nobody',
    area: 'resources',
    attempt: 'starts programs with up to 6 MB of arguments',
    judge: 'the host still lists its processes, and the next call is answered',
    async run(ground) {
      const attempt = await ground.attempt('resources.long_arguments');
      return (await ground.processes(attempt)).length > 0 ? [] : ['its processes cannot be listed'];
    },
  },
];

const WAYS_TO_END = [
  ...[0, 3, 137].map((status) => ({ attempt: 'resources.exit_with', with: { status } })),
  ...[6, 9, 11].map((number) => ({ attempt: 'resources.signal_self', with: { number } })),
  ...[9, 15, 19].map((number) => ({ attempt: 'resources.end_process_one', with: { number } })),
  { attempt: 'kernel.stop_process_one' },
];

/** Stopping a sandbox does nothing; afterwards it is made up for. */
function onlyHangUp(): () => Promise<void> {
  const asked: DockerSandbox[] = [];
  const putBack = replaceMethod(DockerSandbox.prototype, 'stop', async function (this: DockerSandbox) {
    asked.push(this);
  });
  return async () => {
    putBack();
    await Promise.all(asked.map((sandbox) => sandbox.stop()));
  };
}

async function countProcesses(ground: Ground, name: string): Promise<readonly string[]> {
  const { container, spec, ...rest } = await ground.begin({ memoryMb: 512 });
  const limit = ground.isolation === 'gvisor' ? 256 : 64;
  const attempt: Attempt = { ...rest, container };
  const ended = await ground.call(spec, { event: { attempt: name } });
  // It may have ended for its memory; what is left is frozen.
  const seen = (await ground.host.cgroup(container))?.processes ?? 0;
  ground.node.host.runner.forget([spec.versionId]);
  await ground.gone(attempt);
  const left = await ground.host.processes(container);
  return [
    ...(seen > limit ? [`${seen} processes ran`] : []),
    ...(left.length > 0 ? [`${left.length} processes are left`] : []),
    ...(ended.outcome === Outcome.UNKNOWN ? ['the call has no outcome'] : []),
  ];
}

function errorOtherThan(end: Ended, errorType: string): string[] {
  const actual = end.error?.errorType ?? `the result ${end.text.slice(0, 40)}`;
  return actual === errorType ? [] : [`it ended with ${actual}`];
}

/**
 * The kernel lets a process that it is killing for its memory, and allocations that must not fail, go some pages beyond the
 * limit (`force` in `try_charge`), and the peak counts them.
 */
const BEYOND_LIMIT_BYTES = MB;

function overMemory(end: Ended, { memoryMb }: VersionSpec): string[] {
  const peak = end.receipt?.memoryPeakBytes ?? 0;
  return peak > memoryMb * MB + BEYOND_LIMIT_BYTES ? [`it held ${peak} bytes of ${memoryMb} MB`] : [];
}

/** Whether the condition came true within some seconds; few where it is not expected to. */
async function until({ unprotected }: Ground, condition: () => Promise<boolean>): Promise<boolean> {
  const patience = { timeout: unprotected ? 1_000 : 5_000, interval: 100 };
  return expect
    .poll(condition, patience)
    .toBe(true)
    .then(
      () => true,
      () => false,
    );
}
