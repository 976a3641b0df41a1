import { SANDBOX_GROUP } from '@lambda-fleet/common/sandbox-users';
import type { ContainerCreateOptions } from 'dockerode';
import { SOCKET_NAME } from '../../channel/channel-listener.js';
import { heapLimitMb } from '../heap-limit.js';
import type { SandboxSpec } from '../sandbox-driver.js';
import { CPU_PERIOD_US, cpuQuotaUs } from './cgroup.js';
import { OWNER_LABEL, SANDBOX_LABEL } from './container-labels.js';
import type { EgressAttachment } from './egress/egress-place.js';
import { SECCOMP_PROFILE } from './seccomp-profile.js';

export const TASK_ROOT_INSIDE = '/var/task';
const CHANNEL_DIR_INSIDE = '/run/lambda';
const CACHE_DIR_INSIDE = '/var/cache/lambda';

/**
 * Gives the runtime the container's standard output and input as descriptors 3 and 4, so that nothing which user code
 * writes to 1 and 2 gets between the frames: both of these lead to the container's standard error.
 */
const ATTACHED_CHANNEL = 'fd:4,3';
const ATTACH_SCRIPT = 'exec 3>&1 1>&2 4<&0 0</dev/null; exec "$@"';

/**
 * A runtime needs about a dozen threads; the rest is for the function. A fork bomb ends here. gVisor's own threads count
 * too, 44 to 48 of them when it is idle.
 */
const PIDS_MAX = { runc: 64, gvisor: 256 } as const;
/** `/tmp`, as on AWS. It counts as memory, so a function with less memory has less of it. */
const TMP_MB = 512;
const DESCRIPTORS_MAX = 1024;
const MB = 1024 * 1024;

export interface ContainerSpecInput {
  readonly sandbox: SandboxSpec;
  /** Owns nothing in the image and nothing on the host. */
  readonly user: number;
  readonly transport: 'socket' | 'attach';
  /** The engine's name for what isolates it; undefined is the engine's default. */
  readonly engineRuntime: string | undefined;
  /** Its place in an egress network; undefined gives it no network. */
  readonly attachment: EgressAttachment | undefined;
  readonly nodeId: string;
  readonly owner: string;
  readonly cgroupParent: string;
  /** Image digest, so that moving the tag does not change a node's sandboxes halfway. */
  readonly imageId: string;
  /** Program and arguments; `{heapMb}` stands for the heap limit. */
  readonly entry: readonly string[];
}

export function containerName(owner: string, sandboxId: string): string {
  return `lambda-${owner.slice(0, 8)}-${sandboxId}`;
}

/** What the engine is asked for: every limit a sandbox has stands here. */
export function containerSpec(input: ContainerSpecInput): ContainerCreateOptions {
  const { sandbox, owner } = input;
  const memoryBytes = sandbox.limits.memoryMb * MB;
  const attach = input.transport === 'attach';
  const entry = input.entry.map((arg) => arg.replaceAll('{heapMb}', String(heapLimitMb(sandbox.heapMemoryMb))));
  const [program, ...args] = attach ? ['/bin/sh', '-c', ATTACH_SCRIPT, 'lambda', ...entry] : entry;
  return {
    name: containerName(owner, sandbox.id),
    Image: input.imageId,
    Entrypoint: program,
    Cmd: args,
    User: `${input.user}:${SANDBOX_GROUP}`,
    WorkingDir: TASK_ROOT_INSIDE,
    Env: [
      'HOME=/tmp',
      'LANG=C.UTF-8',
      'PATH=/usr/local/bin:/usr/bin:/bin',
      `LAMBDA_CHANNEL=${attach ? ATTACHED_CHANNEL : `${CHANNEL_DIR_INSIDE}/${SOCKET_NAME}`}`,
      `LAMBDA_NONCE=${sandbox.nonce}`,
      `LAMBDA_TASK_ROOT=${TASK_ROOT_INSIDE}`,
      `LAMBDA_CODE_CACHE=${CACHE_DIR_INSIDE}`,
    ],
    Labels: {
      [OWNER_LABEL]: owner,
      'lambda.node': input.nodeId,
      [SANDBOX_LABEL]: sandbox.id,
      'lambda.runtime': sandbox.runtime,
    },
    AttachStdin: attach,
    OpenStdin: attach,
    // When the agent is gone, the engine closes the input, and the runtime ends.
    StdinOnce: attach,
    AttachStdout: true,
    AttachStderr: true,
    // Measured 1.8 times faster to start than NetworkMode none, and still a network namespace of its own.
    NetworkDisabled: input.attachment === undefined,
    ...(input.attachment === undefined ? {} : { NetworkingConfig: endpointConfig(input.attachment) }),
    HostConfig: {
      ...(input.attachment === undefined ? {} : networkOfHost(input.attachment)),
      ...(input.engineRuntime === undefined ? {} : { Runtime: input.engineRuntime }),
      // The engine's own init is process 1: it reaps what a function leaves behind, whose zombies would fill the process
      // limit, and signals have their usual effect on the runtime.
      Init: true,
      ReadonlyRootfs: true,
      // AWS lets functions run programs from /tmp, so it is not noexec. What is written there counts as memory.
      Tmpfs: { '/tmp': `rw,nosuid,nodev,exec,mode=1777,size=${TMP_MB}m,nr_inodes=65536` },
      CapDrop: ['ALL'],
      SecurityOpt: ['no-new-privileges', ...(sandbox.isolation === 'gvisor' ? [] : [`seccomp=${SECCOMP_PROFILE}`])],
      CgroupParent: input.cgroupParent,
      Memory: memoryBytes,
      MemorySwap: memoryBytes,
      CpuPeriod: CPU_PERIOD_US,
      // NanoCpus would be refused above the host's own number of processors.
      CpuQuota: cpuQuotaUs(sandbox.limits.cpus),
      PidsLimit: sandbox.isolation === 'gvisor' ? PIDS_MAX.gvisor : PIDS_MAX.runc,
      Ulimits: [
        { Name: 'nofile', Soft: DESCRIPTORS_MAX, Hard: DESCRIPTORS_MAX },
        { Name: 'core', Soft: 0, Hard: 0 },
      ],
      IpcMode: 'none',
      LogConfig: { Type: 'none', Config: {} },
      Mounts: [
        readOnly(sandbox.taskDir, TASK_ROOT_INSIDE),
        readOnly(sandbox.cacheDir, CACHE_DIR_INSIDE),
        ...(attach ? [] : [readOnly(sandbox.channelDir, CHANNEL_DIR_INSIDE)]),
        ...(input.attachment === undefined ? [] : [readOnly(input.attachment.resolvConf, '/etc/resolv.conf')]),
      ],
    },
  };
}

/** The engine's own name server (127.0.0.11, with runc only) asks in the sandbox's name, and so has nowhere else to ask. */
function networkOfHost({ network, nameServer }: EgressAttachment) {
  return { NetworkMode: network, Dns: [nameServer] };
}

function endpointConfig({ network, address }: EgressAttachment) {
  return { EndpointsConfig: { [network]: { IPAMConfig: { IPv4Address: address } } } };
}

export function readOnly(source: string, target: string) {
  return { Type: 'bind' as const, Source: source, Target: target, ReadOnly: true };
}
