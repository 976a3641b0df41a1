import { availableParallelism, totalmem } from 'node:os';
import { resolve } from 'node:path';
import { fileContent, LOG_LEVELS, parseEnvironment } from '@lambda-fleet/common/environment';
import { z } from 'zod';
import { CHANNEL_TRANSPORTS, type ChannelTransport } from './drivers/docker/engine-location.js';

/** Sandboxes may use three quarters of the machine; the rest is for the system, the engine and the agent. */
const DEFAULT_MEMORY_MB = Math.floor((totalmem() / 1024 / 1024) * 0.75);

const DEFAULT_SLOTS = Math.max(8, 8 * availableParallelism());

/** A blank of Node uses about 45 MB while it waits, one of Python 10. */
const DEFAULT_BLANKS = 4;

const schema = z.object({
  /** `host:port` of the control plane's link. */
  LAMBDA_CONTROL_PLANE: z.string().regex(/^.+:\d+$/, 'must be host:port'),
  LAMBDA_DATA_DIR: z.string().min(1),
  LAMBDA_DRIVER: z.enum(['docker', 'process']),
  /** How the Docker driver speaks with its sandboxes. */
  LAMBDA_CHANNEL_TRANSPORT: z.enum(CHANNEL_TRANSPORTS).default('auto'),
  /** PEM files. The certificate's common name is this node's id. */
  LAMBDA_TLS_CA: fileContent('the CA certificate'),
  LAMBDA_TLS_CERT: fileContent('the certificate'),
  LAMBDA_TLS_KEY: fileContent('the private key'),
  /** Memory that sandboxes may use together. */
  LAMBDA_MEMORY_MB: z.coerce.number().int().min(128).default(DEFAULT_MEMORY_MB),
  /** Sandboxes at once. */
  LAMBDA_SLOTS: z.coerce.number().int().min(1).max(10_000).default(DEFAULT_SLOTS),
  /** Sandboxes that are booted before anybody needs them. */
  LAMBDA_BLANKS: z.coerce.number().int().min(0).max(1_000).default(DEFAULT_BLANKS),
  /** `key=value`, comma separated. */
  LAMBDA_LABELS: z.string().default(''),
  /** Where `/metrics` is served, on 127.0.0.1; 0 serves none. */
  LAMBDA_METRICS_PORT: z.coerce.number().int().min(0).max(65_535).default(0),
  LAMBDA_LOG_LEVEL: z.enum(LOG_LEVELS).default('info'),
  DOCKER_HOST: z.string().optional(),
  XDG_RUNTIME_DIR: z.string().optional(),
});

export interface AgentConfig {
  readonly controlPlane: string;
  readonly dataDir: string;
  readonly driver: 'docker' | 'process';
  readonly channelTransport: ChannelTransport;
  readonly tls: { readonly ca: Buffer; readonly cert: Buffer; readonly key: Buffer };
  readonly memoryBytes: number;
  readonly slots: number;
  readonly blanks: number;
  readonly labels: Readonly<Record<string, string>>;
  /** 0 serves no metrics. */
  readonly metricsPort: number;
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
    tls: { ca: value.LAMBDA_TLS_CA, cert: value.LAMBDA_TLS_CERT, key: value.LAMBDA_TLS_KEY },
    memoryBytes: value.LAMBDA_MEMORY_MB * 1024 * 1024,
    slots: value.LAMBDA_SLOTS,
    blanks: value.LAMBDA_BLANKS,
    labels: parseLabels(value.LAMBDA_LABELS),
    metricsPort: value.LAMBDA_METRICS_PORT,
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
