import { createHash, randomBytes } from 'node:crypto';
import { lstat, readdir, readFile, realpath, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { defaultDockerHost } from '@lambda-fleet/common/docker-host';
import type { ContainerCreateOptions } from 'dockerode';
import { SandboxPlaces } from '../src/sandboxes/sandbox-directories.js';
import type { Attempt, Ground } from './ground.js';
import { appeared, asRoot, type Probe, replaceMethod, withHostConfig } from './probe.js';

/** What the engine hides or empties, and what only the host's root may read. */
const KERNEL_SECRETS = [
  ...['kcore', 'keys', 'kmsg', 'kallsyms', 'timer_list', 'latency_stats', 'sched_debug', 'slabinfo', 'vmallocinfo'],
  ...['pagetypeinfo', 'kpagecount', 'kpageflags', 'kpagecgroup', 'iomem', 'ioports', 'mtrr', 'acpi', 'scsi', 'asound'],
].map((name) => `/proc/${name}`);
const SYS_SECRETS = ['firmware', 'kernel/debug', 'kernel/security', 'kernel/tracing', 'fs/bpf', 'fs/pstore'].map(
  (name) => `/sys/${name}`,
);
/** How much of a file tells whether it is the host's: what follows may change from one moment to the next. */
const SAME_BYTES = 40;

/** Settings of the whole kernel, with values that would do no harm to speak of. */
const SETTINGS = {
  '/proc/sys/kernel/printk_ratelimit_burst': '11',
  '/proc/sys/kernel/core_pattern': 'core.planted',
  '/proc/sys/kernel/modprobe': '/bin/planted',
  '/proc/sys/kernel/sysrq': '1',
  '/proc/sys/fs/file-max': '9000000000000000000',
  '/proc/sys/fs/suid_dumpable': '1',
  '/proc/sys/vm/stat_interval': '2',
  '/sys/kernel/uevent_helper': '/bin/planted',
  // Asks for its own help text.
  '/proc/sysrq-trigger': 'h',
} as const;
const HARMLESS_SETTING = '/proc/sys/kernel/printk_ratelimit_burst';

export const fileProbes: readonly Probe[] = [
  {
    name: 'what the kernel knows of the host stays hidden',
    area: 'files',
    attempt:
      'reads `/proc/kcore`, `keys`, `timer_list`, `kallsyms`… and everything below `/sys/firmware`, debugfs and others',
    judge: 'no file begins with the bytes that the host’s root reads there',
    async run(ground) {
      const { said } = await ground.attempt('files.read_each', { paths: [...KERNEL_SECRETS, ...SYS_SECRETS] });
      const got = new Map(Object.entries<string>(said).map(([path, bytes]) => [path, Buffer.from(bytes, 'base64')]));
      const there = await ground.host.read([...got.keys()]);
      return [...got]
        .filter(([path, bytes]) => there.get(path)?.subarray(0, SAME_BYTES).equals(bytes.subarray(0, SAME_BYTES)))
        .map(([path]) => `${path} was read`);
    },
    withoutDefence: {
      removed: 'masked paths, unprivileged user',
      isolations: ['runc'],
      alter: (spec) => asRoot(spec, { MaskedPaths: [] }),
    },
  },
  {
    name: 'the kernel’s settings cannot be changed',
    area: 'files',
    attempt: 'writes to `core_pattern`, `modprobe`, `sysrq`, `sysrq-trigger`, `uevent_helper`, `file-max`…',
    judge: 'the host’s values are what they were',
    async run(ground) {
      const asked = Object.keys(SETTINGS);
      const before = await ground.host.read(asked);
      // Where the defence is gone, the most harmless of them shows it.
      const values = ground.unprotected ? { [HARMLESS_SETTING]: SETTINGS[HARMLESS_SETTING] } : SETTINGS;
      await ground.attempt('files.write_each', { values });
      const after = await ground.host.read(asked);
      const changed = asked.filter((path) => String(after.get(path)) !== String(before.get(path)));
      for (const path of changed) await ground.host.write(path, String(before.get(path)));
      return changed.map((path) => `${path} became ${after.get(path)}`);
    },
    withoutDefence: {
      removed: 'read-only paths, unprivileged user',
      isolations: ['runc'],
      alter: (spec) => asRoot(spec, { ReadonlyPaths: [], MaskedPaths: [] }),
    },
  },
  {
    name: 'no program of the host can be overwritten through a running process',
    area: 'files',
    attempt: 'writes to, cuts, replaces and reopens `/proc/<pid>/exe` of every process, its first one included',
    judge: 'the programs of all its processes have the checksums they had',
    async run(ground) {
      const first = await ground.attempt('trying.tidy');
      const before = (await ground.processes(first)).map(({ name, program }) => `${name} ${program}`);
      const after = await ground.attempt('files.overwrite_programs');
      return appeared(
        'changed',
        before,
        (await ground.processes(after)).map(({ name, program }) => `${name} ${program}`),
      );
    },
  },
  {
    name: 'no working directory, descriptor or mount leads out',
    area: 'files',
    attempt:
      'climbs from the working directory, root and every descriptor of every process, and from every mount point',
    judge: 'the bytes of a file on the host never come back',
    async run(ground) {
      const path = await ground.secretFile();
      const { said } = await ground.attempt('files.climb', { name: `secret-${ground.secret}`, absolute: path });
      return said !== null && Buffer.from(said.bytes, 'base64').includes(ground.secret) ? [`read at ${said.path}`] : [];
    },
    withoutDefence: {
      removed: 'only its own mounts: its working directory lies in a folder of the host',
      isolations: ['runc', 'gvisor'],
      alter: (spec, ground) =>
        withHostConfig(
          { ...spec, WorkingDir: '/mnt/secrets/below' },
          { Binds: [`${join(ground.node.directory, 'secrets')}:/mnt/secrets:ro`] },
        ),
    },
  },
  {
    name: 'no socket of an engine or of the agent can be reached',
    area: 'files',
    attempt: 'asks every socket in the filesystem and every name in `/proc/net/unix` for a container',
    judge: 'the engine has no such container',
    async run(ground) {
      const name = `planted-${randomBytes(6).toString('hex')}`;
      const { said, container } = await ground.attempt('files.call_engines', { image: await imageOf(ground), name });
      const made = await ground.docker.listContainers({ all: true, filters: { name: [name] } });
      for (const { Id } of made) await ground.docker.getContainer(Id).remove({ force: true });
      const answered = Object.entries(said).filter(([, status]) => typeof status === 'number');
      return [
        ...made.map(({ Names }) => `a container was made: ${Names.join()}`),
        ...answered.map(([path, status]) => `${path} answered ${container.slice(0, 6)} with ${status}`),
      ];
    },
    withoutDefence: {
      removed: 'only its own mounts: the engine’s socket is mounted',
      isolations: ['runc', 'gvisor'],
      alter: (spec) => asRoot(spec, { Binds: [`${engineSocket()}:/run/docker.sock`] }),
    },
  },
  {
    name: 'the image, the code, what was compiled of it and the runtime stay as they are',
    area: 'files',
    attempt: 'writes, cuts, renames, links, removes, and sets modes, owners, times and attributes of all of them',
    judge:
      'the engine sees no change of the container; the cached code and the host’s folders are byte for byte the same',
    async run(ground) {
      const first = await ground.attempt('trying.tidy');
      const before = await ownFiles(ground, first);
      const after = await ground.attempt('files.change_everything');
      const changes = (await ground.docker.getContainer(after.container).changes()) as
        | readonly { readonly Path: string; readonly Kind: number }[]
        | null;
      return [
        ...appeared('on the host', before, await ownFiles(ground, after)),
        ...(changes ?? []).filter(({ Path, Kind }) => !isMountPoint(Path, Kind)).map(({ Path }) => `changed: ${Path}`),
      ];
    },
    withoutDefence: {
      removed: 'read-only root, read-only mounts, unprivileged user',
      isolations: ['runc', 'gvisor'],
      alter: (spec) => asRoot(spec, { ReadonlyRootfs: false, Mounts: writable(spec.HostConfig?.Mounts) }),
    },
  },
  {
    name: 'the host follows no link that a sandbox planted',
    area: 'files',
    attempt: 'puts links to a folder of the host into its task, cache and channel directory and `/tmp`, and ends',
    judge: 'when the sandbox has been removed, the folder still has its file',
    async run(ground) {
      const file = await ground.secretFile();
      const spec = await ground.deployHostile();
      const attempt = await ground.attemptIn(spec, 'files.plant_links', { target: dirname(file) });
      ground.node.host.runner.forget([spec.versionId]);
      await ground.gone(attempt);
      const harmed = (await readFile(file, 'utf8').catch(() => '')) !== ground.secret;
      return harmed ? ['the folder behind the link was emptied'] : [];
    },
    withoutDefence: {
      removed: 'read-only mounts, unprivileged user; and the agent’s removal goes by what a link leads to',
      isolations: ['runc', 'gvisor'],
      alter: (spec) => asRoot(spec, { Mounts: writable(spec.HostConfig?.Mounts) }),
      replace: () => replaceMethod(SandboxPlaces.prototype, 'remove', removeThroughLinks),
    },
  },
  {
    name: 'secrets of the agent, of the host and of other functions are nowhere to be read',
    area: 'files',
    attempt: 'searches environments, arguments, mounts and files of everything it can see',
    judge:
      'it finds none of: the agent’s environment, a host’s file, another function’s environment; and the host sees its own in no process’s start nor in the container’s definition',
    async run(ground) {
      await ground.secretFile();
      const own = randomBytes(16).toString('hex');
      const other = await ground.deployHostile({ environment: { OTHER: ground.secret } });
      await ground.attemptIn(other, 'trying.tidy');
      const spec = await ground.deployHostile({ environment: { OWN: own } });
      const needles = [ground.secret, process.env.LAMBDA_PROBES_SECRET ?? ground.secret];
      const attempt = await ground.attemptIn(spec, 'files.search', {
        reversed_needles: needles.map((needle) => [...needle].reverse().join('')),
      });
      const definition = JSON.stringify(await ground.docker.getContainer(attempt.container).inspect());
      const starts = (await ground.processes(attempt)).map((one) => one.environment + one.arguments);
      return [
        ...Object.entries(attempt.said).map(([, place]) => `a secret stands in ${place}`),
        ...(definition.includes(own) ? ['its environment stands in the container’s definition'] : []),
        ...(starts.some((start) => start.includes(own)) ? ['its environment stands in a process’s start'] : []),
      ];
    },
    withoutDefence: {
      removed: 'nothing but the boot’s variables in its environment',
      isolations: ['runc', 'gvisor'],
      alter: (spec, ground) => ({ ...spec, Env: [...(spec.Env ?? []), `AGENT_KEY=${ground.secret}`] }),
    },
  },
];

/** Of everything that belongs to the node but not to the function: names, kinds, modes and checksums. */
async function ownFiles(ground: Ground, attempt: Attempt): Promise<string[]> {
  const cached = join(ground.node.dataDir, 'artifacts');
  const sandbox = join(ground.node.dataDir, 'sandboxes', attempt.sandboxId);
  const { HostsPath, ResolvConfPath, HostnamePath } = await ground.docker.getContainer(attempt.container).inspect();
  const files: string[] = [];
  for (const top of [cached, sandbox, HostsPath, ResolvConfPath, HostnamePath]) await describe(top, files);
  return files;
}

async function describe(path: string, into: string[]): Promise<void> {
  const info = await lstat(path).catch(() => undefined);
  // Files that the cache touches itself tell when they were used.
  if (info === undefined || path.endsWith('entry.json')) return;
  const content = info.isFile()
    ? createHash('sha256')
        .update(await readFile(path))
        .digest('hex')
    : '';
  into.push(`${path} ${info.mode.toString(8)} ${info.uid} ${content}`);
  if (info.isDirectory()) for (const name of await readdir(path)) await describe(join(path, name), into);
}

/** The engine makes what it mounts over, and their folders. */
function isMountPoint(path: string, kind: number): boolean {
  const points = ['/etc/hosts', '/etc/hostname', '/etc/resolv.conf', '/run/lambda', '/var/task', '/var/cache/lambda'];
  const made = [
    ...points,
    '/sbin/docker-init',
    '/usr/sbin/docker-init',
    '/etc/mtab',
    '/mnt/secrets',
    '/run/docker.sock',
  ];
  const ADDED_OR_CHANGED = kind !== 2;
  return ADDED_OR_CHANGED && (made.includes(path) || made.some((point) => point.startsWith(`${path}/`)));
}

type Mounts = NonNullable<ContainerCreateOptions['HostConfig']>['Mounts'];

function writable(mounts: Mounts): Mounts {
  return mounts?.map((mount) => ({ ...mount, ReadOnly: false }));
}

async function imageOf(ground: Ground): Promise<string> {
  const [image] = await ground.docker.listImages({ filters: { label: ['lambda.runtime=python3.11'] } });
  return image?.Id ?? '';
}

function engineSocket(): string {
  const host = process.env.DOCKER_HOST ?? defaultDockerHost();
  return host.replace('unix://', '');
}

/** How a sandbox’s folders would be removed by someone who forgot that there are links. */
async function removeThroughLinks(this: SandboxPlaces, id: string): Promise<void> {
  const roots = this as unknown as { readonly taskRoot: string; readonly socketRoot: string };
  for (const root of [roots.taskRoot, roots.socketRoot]) await emptyAll(join(root, id));
}

async function emptyAll(folder: string): Promise<void> {
  const real = await realpath(folder).catch(() => undefined);
  if (real === undefined) return;
  for (const name of await readdir(real).catch(() => [])) await emptyAll(join(real, name));
  await rm(real, { recursive: true, force: true });
  await rm(folder, { recursive: true, force: true });
}
