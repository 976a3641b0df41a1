import { availableParallelism, totalmem } from 'node:os';
import { resolve } from 'node:path';
import { NODE_ID } from '@lambda-fleet/common/certificates/node-certificate';
import { fileContent, LOG_LEVELS, parseEnvironment } from '@lambda-fleet/common/environment';
import { Secret } from '@lambda-fleet/common/secret';
import { z } from 'zod';
import { CHANNEL_TRANSPORTS, type ChannelTransport } from './drivers/docker/engine-location.js';
import type { BuildLimits } from './images/image-builder.js';
import { parseAddress, REPLICAS_MAX } from './link/replica-list.js';

/** Sandboxes may use three quarters of the machine; the rest is for the system, the engine and the agent. */
const DEFAULT_MEMORY_MB = Math.floor((totalmem() / 1024 / 1024) * 0.75);

const MB = 1024 * 1024;

/** Where a control plane lets machines join, unless it is told otherwise. */
const ENROLL_PORT = 7071;

const DEFAULT_SLOTS = Math.max(8, 8 * availableParallelism());

/** A blank of Node uses about 45 MB while it waits, one of Python 10. */
const DEFAULT_BLANKS = 4;

/** `host:port` of each replica, comma separated. */
const addresses = z
  .string()
  .transform((text) => text.split(',').map((address) => address.trim()))
  .refine((each) => each.every((address) => parseAddress(address) !== undefined), 'must be host:port, comma separated')
  .refine(({ length }) => length <= REPLICAS_MAX, `must have at most ${REPLICAS_MAX} addresses`);

const schema = z.object({
  /** `host:port` of the link of each replica of the control plane, comma separated. A name may stand for several. */
  LAMBDA_CONTROL_PLANE: addresses,
  LAMBDA_DATA_DIR: z.string().min(1),
  LAMBDA_DRIVER: z.enum(['docker', 'process']),
  /** How the Docker driver speaks with its sandboxes. */
  LAMBDA_CHANNEL_TRANSPORT: z.enum(CHANNEL_TRANSPORTS).default('auto'),
  /** PEM files instead of a join token: all three or none. The certificate's common name is this node's id. */
  LAMBDA_TLS_CA: fileContent('the CA certificate').optional(),
  LAMBDA_TLS_CERT: fileContent('the certificate').optional(),
  LAMBDA_TLS_KEY: fileContent('the private key').optional(),
  /** What `lambda node join-token` printed: lets this machine join when it has no certificate, or gets it a new one. */
  LAMBDA_JOIN_TOKEN: z.string().optional(),
  /** The id to join with; the host's name otherwise. */
  LAMBDA_NODE_ID: z.string().regex(NODE_ID, 'must be 1 to 63 characters of a-z, 0-9, "." and "-"').optional(),
  /** `host:port` where to join, comma separated; the control planes' hosts and port 7071 otherwise. */
  LAMBDA_ENROLL_ADDRESS: addresses.optional(),
  /** Memory that sandboxes may use together. */
  LAMBDA_MEMORY_MB: z.coerce.number().int().min(128).default(DEFAULT_MEMORY_MB),
  /** Sandboxes at once. */
  LAMBDA_SLOTS: z.coerce.number().int().min(1).max(10_000).default(DEFAULT_SLOTS),
  /** Sandboxes that are booted before anybody needs them. */
  LAMBDA_BLANKS: z.coerce.number().int().min(0).max(1_000).default(DEFAULT_BLANKS),
  /** `key=value`, comma separated. */
  LAMBDA_LABELS: z.string().default(''),
  /** Whether gVisor is offered where the engine has it. */
  LAMBDA_GVISOR: z.enum(['auto', 'off']).default('auto'),
  /** Whether functions may have a network, where this machine can guard it. */
  LAMBDA_EGRESS: z.enum(['auto', 'off']).default('auto'),
  /** Where `/metrics` is served, on 127.0.0.1; 0 serves none. */
  LAMBDA_METRICS_PORT: z.coerce.number().int().min(0).max(65_535).default(0),
  /**
   * Builds container images for `lambda deploy`. The steps of a Dockerfile run as root in containers of the engine, with a network and
   * outside of every sandbox: see docs/container-images.md.
   */
  LAMBDA_BUILDS: z.enum(['true', 'false']).default('false'),
  /** What a step of a build may use; kept back from the sandboxes. */
  LAMBDA_BUILD_MEMORY_MB: z.coerce.number().int().min(64).default(2_048),
  LAMBDA_BUILD_CPUS: z.coerce.number().min(0.1).max(256).default(1),
  LAMBDA_BUILD_TIMEOUT_S: z.coerce.number().int().min(1).max(3_000).default(900),
  /** What a build may use of the engine's disk. */
  LAMBDA_BUILD_DISK_MB: z.coerce.number().int().min(1).default(10_240),
  LAMBDA_BUILD_NETWORK: z.enum(['auto', 'none']).default('auto'),
  /** Container images of functions above it are removed when no sandbox uses them. */
  LAMBDA_IMAGES_MB: z.coerce.number().int().min(1).default(20_480),
  /** How long a stopping agent lets what runs finish. */
  LAMBDA_LEAVE_S: z.coerce.number().min(0).max(3_600).default(90),
  LAMBDA_LOG_LEVEL: z.enum(LOG_LEVELS).default('info'),
  DOCKER_HOST: z.string().optional(),
  XDG_RUNTIME_DIR: z.string().optional(),
});

export interface AgentConfig {
  /** `host:port` each. */
  readonly controlPlane: readonly string[];
  readonly dataDir: string;
  readonly driver: 'docker' | 'process';
  readonly channelTransport: ChannelTransport;
  /** Undefined: the certificate is in the data directory, or is to be got with a join token. */
  readonly tls: { readonly ca: Buffer; readonly cert: Buffer; readonly key: Buffer } | undefined;
  readonly join: {
    readonly token: Secret | undefined;
    readonly nodeId: string | undefined;
    /** `host:port` */
    readonly addresses: readonly string[];
  };
  readonly memoryBytes: number;
  readonly slots: number;
  readonly blanks: number;
  readonly labels: Readonly<Record<string, string>>;
  readonly gvisor: boolean;
  readonly egress: boolean;
  /** 0 serves no metrics. */
  readonly metricsPort: number;
  /** Undefined builds nothing. */
  readonly builds: (BuildLimits & { readonly network: 'auto' | 'none' }) | undefined;
  readonly imageBytesMax: number;
  readonly leaveMs: number;
  readonly logLevel: string;
  readonly dockerHost: string | undefined;
  readonly runtimeDir: string | undefined;
}

/** Parses the environment once. Throws one error that names every variable that is wrong. */
export function readConfig(env: NodeJS.ProcessEnv = process.env): AgentConfig {
  const value = parseEnvironment('agent', schema, env);
  return Object.freeze({
    controlPlane: value.LAMBDA_CONTROL_PLANE,
    dataDir: resolve(value.LAMBDA_DATA_DIR),
    driver: value.LAMBDA_DRIVER,
    channelTransport: value.LAMBDA_CHANNEL_TRANSPORT,
    tls: tlsOf(value),
    join: {
      token: value.LAMBDA_JOIN_TOKEN === undefined ? undefined : new Secret(value.LAMBDA_JOIN_TOKEN.trim()),
      nodeId: value.LAMBDA_NODE_ID,
      addresses:
        value.LAMBDA_ENROLL_ADDRESS ??
        value.LAMBDA_CONTROL_PLANE.map((address) => address.replace(/\d+$/, `${ENROLL_PORT}`)),
    },
    memoryBytes: value.LAMBDA_MEMORY_MB * 1024 * 1024,
    slots: value.LAMBDA_SLOTS,
    blanks: value.LAMBDA_BLANKS,
    labels: parseLabels(value.LAMBDA_LABELS),
    gvisor: value.LAMBDA_GVISOR === 'auto',
    egress: value.LAMBDA_EGRESS === 'auto',
    metricsPort: value.LAMBDA_METRICS_PORT,
    builds: value.LAMBDA_BUILDS === 'true' ? buildsOf(value) : undefined,
    imageBytesMax: value.LAMBDA_IMAGES_MB * MB,
    leaveMs: Math.round(value.LAMBDA_LEAVE_S * 1_000),
    logLevel: value.LAMBDA_LOG_LEVEL,
    dockerHost: value.DOCKER_HOST,
    runtimeDir: value.XDG_RUNTIME_DIR,
  });
}

const doctorSchema = z.object({
  LAMBDA_DATA_DIR: z.string().min(1).default('.lambda'),
  LAMBDA_CHANNEL_TRANSPORT: z.enum(CHANNEL_TRANSPORTS).default('auto'),
  DOCKER_HOST: z.string().optional(),
  XDG_RUNTIME_DIR: z.string().optional(),
});

/** What the doctor is told: the part of an agent's environment that concerns the machine. */
export interface DoctorConfig {
  readonly dataDir: string;
  readonly channelTransport: ChannelTransport;
  readonly dockerHost: string | undefined;
  readonly runtimeDir: string | undefined;
}

export function readDoctorConfig(env: NodeJS.ProcessEnv = process.env): DoctorConfig {
  const value = parseEnvironment('doctor', doctorSchema, env);
  return {
    dataDir: resolve(value.LAMBDA_DATA_DIR),
    channelTransport: value.LAMBDA_CHANNEL_TRANSPORT,
    dockerHost: value.DOCKER_HOST,
    runtimeDir: value.XDG_RUNTIME_DIR,
  };
}

/** @throws Error when there are some of the files and not all */
function tlsOf({ LAMBDA_TLS_CA: ca, LAMBDA_TLS_CERT: cert, LAMBDA_TLS_KEY: key }: z.output<typeof schema>) {
  if (ca !== undefined && cert !== undefined && key !== undefined) return { ca, cert, key };
  if (ca === undefined && cert === undefined && key === undefined) return undefined;
  throw new Error(
    'The agent cannot start with this environment. LAMBDA_TLS_CA, LAMBDA_TLS_CERT and LAMBDA_TLS_KEY belong together: give all three, or none and a join token.',
  );
}

function buildsOf(value: z.output<typeof schema>) {
  return {
    memoryBytes: value.LAMBDA_BUILD_MEMORY_MB * MB,
    cpus: value.LAMBDA_BUILD_CPUS,
    timeoutMs: value.LAMBDA_BUILD_TIMEOUT_S * 1_000,
    diskBytes: value.LAMBDA_BUILD_DISK_MB * MB,
    network: value.LAMBDA_BUILD_NETWORK,
  };
}

function parseLabels(text: string): Record<string, string> {
  const labels: Record<string, string> = {};
  for (const pair of text.split(',').filter((part) => part !== '')) {
    const [key, ...value] = pair.split('=');
    if (key === undefined || key === '' || value.length === 0) {
      throw new Error(`LAMBDA_LABELS: "${pair}" is not key=value.`);
    }
    labels[key] = value.join('=');
  }
  return labels;
}
