import { randomBytes } from 'node:crypto';
import type { Attempt, Ground } from './ground.js';
import { appeared, asRoot, type Probe, withHostConfig } from './probe.js';

const UNCONFINED = ['seccomp=unconfined', 'apparmor=unconfined'];

/** Character devices that the engine gives to every container. */
const USUAL_DEVICES = new Set(['1:3', '1:5', '1:7', '1:8', '1:9', '5:0', '5:1', '5:2']);
const isTerminal = (device: string) => device.startsWith('136:');

/** Kinds of descriptors behind which attacks on kernels have been found. */
const KERNEL_OBJECT = /bpf|perf|userfaultfd|io_uring|fanotify|kvm|seccomp/;

/** The kernel's names of what a function may talk through. */
const USUAL_PROTOCOLS = new Set([
  'UNIX',
  'UNIX-STREAM',
  'TCP',
  'TCPv6',
  'UDP',
  'UDPv6',
  'UDP-Lite',
  'UDPLITEv6',
  'PING',
  'NETLINK',
]);

export const kernelProbes: readonly Probe[] = [
  {
    name: 'what is mounted cannot be changed',
    area: 'kernel',
    attempt:
      'calls `mount`, `umount2`, `fsopen`, `move_mount`, `open_tree`, `pivot_root`, `chroot`, also inside a user namespace',
    judge: 'the mounts of all its processes, as the host lists them, are the same',
    async run(ground) {
      const first = await ground.attempt('trying.tidy');
      const before = await ground.host.mounts(first.container);
      const after = await ground.attempt('kernel.mounts');
      return appeared('mounted', before, await ground.host.mounts(after.container));
    },
    withoutDefence: {
      removed: 'no capabilities, system call filter, unprivileged user',
      isolations: ['runc'],
      alter: (spec) => asRoot(spec, { CapAdd: ['SYS_ADMIN'], SecurityOpt: UNCONFINED }),
    },
  },
  {
    name: 'no process gets into a namespace of its own or of others',
    area: 'kernel',
    attempt: 'calls `unshare` and `clone3` for each kind of namespace, and `setns` for those of every process it sees',
    judge: 'all its processes are in the namespaces that the first one is in',
    async run(ground) {
      const first = await ground.attempt('trying.tidy');
      const before = (await ground.processes(first)).flatMap(namespacesOf);
      const after = await ground.attempt('kernel.namespaces');
      return appeared('namespace', before, (await ground.processes(after)).flatMap(namespacesOf));
    },
    withoutDefence: {
      removed: 'system call filter, no capabilities, unprivileged user',
      isolations: ['runc'],
      alter: (spec) => asRoot(spec, { CapAdd: ['SYS_ADMIN'], SecurityOpt: UNCONFINED }),
    },
  },
  {
    name: 'its limits cannot be raised',
    area: 'kernel',
    attempt: 'writes to the limits of its control group, makes groups inside it, and allows itself devices',
    judge: 'the group’s files on the host hold the same limits, and there is no group inside',
    async run(ground) {
      const first = await ground.attempt('trying.tidy');
      const before = limitsOf(await ground.cgroup(first));
      const after = await ground.attempt('kernel.raise_limits');
      return appeared('limit', before, limitsOf(await ground.cgroup(after)));
    },
    withoutDefence: {
      removed: 'read-only control groups, unprivileged user',
      isolations: ['runc'],
      alter: (spec) => asRoot(spec, { Binds: ['/sys/fs/cgroup:/sys/fs/cgroup:rw'], CgroupnsMode: 'host' }),
    },
  },
  {
    name: 'no device can be opened or made',
    area: 'kernel',
    attempt:
      'makes nodes for memory, disks, KVM, FUSE and TUN in `/tmp`, and opens those and everything a host’s `/dev` may hold',
    judge:
      'none of its processes on the host has opened another device than before, but null, zero, random and terminals',
    async run(ground) {
      const first = await ground.attempt('trying.tidy');
      const before = await devicesOf(ground, first);
      const after = await ground.attempt('kernel.devices');
      return appeared('device', before, await devicesOf(ground, after));
    },
    withoutDefence: {
      removed: 'no devices, no capabilities, unprivileged user',
      isolations: ['runc'],
      alter: (spec) =>
        asRoot(spec, {
          Devices: [{ PathOnHost: '/dev/kmsg', PathInContainer: '/dev/kmsg', CgroupPermissions: 'r' }],
          CapAdd: ['SYSLOG'],
        }),
    },
  },
  {
    name: 'nobody becomes another user or gains a capability',
    area: 'kernel',
    attempt:
      'calls `setuid`, `setresuid`, `setgroups`, runs every set-user-ID program of the image and one of its own making',
    judge: 'the host sees all its processes under the ids they had, without a capability',
    async run(ground) {
      const first = await ground.attempt('trying.tidy');
      const before = (await ground.processes(first)).flatMap(privilegesOf);
      const after = await ground.attempt('kernel.become_root');
      return appeared('privilege', before, (await ground.processes(after)).flatMap(privilegesOf));
    },
    withoutDefence: {
      removed: 'no capabilities, unprivileged user',
      isolations: ['runc'],
      alter: (spec) => asRoot(spec, { CapAdd: ['SETUID'] }),
    },
  },
  {
    name: 'processes outside cannot be seen, read or traced',
    area: 'kernel',
    attempt: 'reads environment, arguments and memory of every process there is',
    judge: 'the secret of a process that the same user runs on the host is not among it',
    async run(ground) {
      const user = await ground.userOf(await ground.attempt('trying.tidy'));
      const bystander = await ground.host.bystander(ground.secret, user);
      try {
        const { said } = await ground.attempt('kernel.look_into_processes');
        const seen = (said as readonly string[]).some((bytes) => Buffer.from(bytes, 'base64').includes(ground.secret));
        return seen ? ['the environment of a process of the host was read'] : [];
      } finally {
        await ground.host.end(bystander);
      }
    },
    withoutDefence: {
      removed: 'a process namespace of its own',
      isolations: ['runc'],
      alter: (spec) => withHostConfig(spec, { PidMode: 'host' }),
    },
  },
  {
    name: 'the parts of the kernel that are attacked most cannot be used',
    area: 'kernel',
    attempt: 'calls `bpf`, `perf_event_open`, `userfaultfd`, `io_uring_setup`, `fanotify_init` and keeps what it gets',
    judge: 'none of its processes on the host holds a descriptor of such a kind',
    async run(ground) {
      const first = await ground.attempt('trying.tidy');
      const before = await kernelObjectsOf(ground, first);
      const after = await ground.attempt('kernel.kernel_objects');
      return appeared('held', before, await kernelObjectsOf(ground, after));
    },
    withoutDefence: {
      removed: 'system call filter',
      isolations: ['runc'],
      alter: (spec) => withHostConfig(spec, { SecurityOpt: UNCONFINED }),
    },
  },
  {
    name: 'keys of the kernel cannot be left for others of the same user',
    area: 'kernel',
    attempt: 'calls `add_key` for the user’s, the user session’s and the session’s ring',
    judge: 'that user has no such key on the host',
    async run(ground) {
      const name = `planted-${randomBytes(6).toString('hex')}`;
      const user = await ground.userOf(await ground.attempt('kernel.plant_key', { name }));
      return (await ground.host.keys(user)).includes(name) ? ['the key is in the user’s ring'] : [];
    },
    withoutDefence: {
      removed: 'system call filter',
      isolations: ['runc'],
      alter: (spec) => withHostConfig(spec, { SecurityOpt: UNCONFINED }),
    },
  },
  {
    name: 'the kernel loads nothing for it',
    area: 'kernel',
    attempt:
      'calls `init_module`, `finit_module`, `kexec_load`, and opens sockets of all families, for which kernels fetch modules',
    judge: 'the host’s kernel has the modules it had',
    async run(ground) {
      const before = await ground.host.modules();
      await ground.attempt('kernel.load_code');
      return appeared('module', before, await ground.host.modules());
    },
  },
  {
    name: 'files of the host cannot be opened by their number',
    area: 'kernel',
    attempt: 'calls `open_by_handle_at` with the true handle of a file that lies on the same filesystem as its code',
    judge: 'the file’s bytes do not come back',
    async run(ground) {
      const { kind, bytes } = await ground.host.handle(await ground.secretFile());
      const { said } = await ground.attempt('files.open_by_handle', { kind, handle: bytes });
      const read = said.bytes !== undefined && Buffer.from(said.bytes, 'base64').includes(ground.secret);
      return read ? ['the file was read'] : [];
    },
    withoutDefence: {
      removed: 'no capabilities, system call filter, unprivileged user',
      isolations: ['runc'],
      alter: (spec) => asRoot(spec, { CapAdd: ['DAC_READ_SEARCH'], SecurityOpt: UNCONFINED }),
    },
  },
  {
    name: 'there are no sockets but those of the internet, of Unix and of the routing table',
    area: 'kernel',
    attempt: 'opens a socket of every family, type and netlink protocol: AF_ALG, vsock, packet, raw…',
    judge: 'the kernel names no other protocol for any descriptor of its processes on the host',
    async run(ground) {
      const first = await ground.attempt('trying.tidy');
      const before = await protocolsOf(ground, first);
      const after = await ground.attempt('kernel.sockets');
      const seen = await protocolsOf(ground, after);
      return appeared(
        'socket',
        before,
        seen.filter((protocol) => !USUAL_PROTOCOLS.has(protocol)),
      );
    },
    withoutDefence: {
      removed: 'no capabilities, system call filter, unprivileged user',
      isolations: ['runc'],
      alter: (spec) => asRoot(spec, { CapAdd: ['NET_RAW'], SecurityOpt: UNCONFINED }),
    },
  },
  {
    name: 'neither the clock nor the host’s name nor its power can be changed',
    area: 'kernel',
    attempt: 'calls `clock_settime`, `adjtimex`, `sethostname`, `reboot`, `swapoff`',
    judge: 'the host’s clock has not jumped, and its name is the same',
    async run(ground) {
      const before = await ground.host.clock();
      await ground.attempt('kernel.turn_clocks');
      const after = await ground.host.clock();
      const jumped = Math.abs(after.offset - before.offset) > 3_600;
      return [...(jumped ? ['the clock jumped'] : []), ...(after.name === before.name ? [] : ['the name changed'])];
    },
  },
];

function namespacesOf({ namespaces }: { readonly namespaces: Readonly<Record<string, string>> }): string[] {
  return Object.values(namespaces);
}

function privilegesOf(process: {
  readonly uids: readonly number[];
  readonly capabilities: readonly string[];
}): string[] {
  return [...process.uids.map((uid) => `user ${uid}`), ...process.capabilities];
}

function limitsOf({ limits, groupsInside }: Awaited<ReturnType<Ground['cgroup']>>): string[] {
  return [...Object.entries(limits).map(([name, value]) => `${name} ${value}`), ...groupsInside];
}

async function devicesOf(ground: Ground, attempt: Attempt): Promise<string[]> {
  const held = (await ground.processes(attempt)).flatMap(({ descriptors }) => descriptors);
  return held.flatMap(({ device }) =>
    device === undefined || USUAL_DEVICES.has(device) || isTerminal(device) ? [] : [device],
  );
}

async function kernelObjectsOf(ground: Ground, attempt: Attempt): Promise<string[]> {
  const held = (await ground.processes(attempt)).flatMap(({ descriptors }) => descriptors);
  return held.map(({ target }) => target).filter((target) => KERNEL_OBJECT.test(target));
}

async function protocolsOf(ground: Ground, attempt: Attempt): Promise<string[]> {
  const held = (await ground.processes(attempt)).flatMap(({ descriptors }) => descriptors);
  return held.flatMap(({ protocol }) => protocol ?? []);
}
