import { resolve } from 'node:path';
import { fileContent, LOG_LEVELS, parseEnvironment } from '@lambda-fleet/common/environment';
import { Secret } from '@lambda-fleet/common/secret';
import { z } from 'zod';
import type { QueueLimits } from './async/enqueue.js';
import type { ExecutionRetention } from './executions/execution-sweep.js';
import type { LogRetention } from './logs/log-sweep.js';
import { LEASE_TIMINGS, type LeaseTimings } from './nodes/node-leases.js';
import { ISOLATION_POLICIES, type IsolationPolicyName } from './scheduling/isolation-policy.js';

const port = z.coerce.number().int().min(0).max(65_535);

const schema = z.object({
  LAMBDA_HTTP_HOST: z.string().default('127.0.0.1'),
  LAMBDA_HTTP_PORT: port.default(8080),
  LAMBDA_GRPC_HOST: z.string().default('127.0.0.1'),
  LAMBDA_GRPC_PORT: port.default(7070),
  /** Where machines join, at the host of the link; served where LAMBDA_TLS_CA_KEY is. */
  LAMBDA_ENROLL_PORT: port.default(7071),
  /** `host:port` at which agents reach this replica, for the other replicas to announce. The certificate has to name the host. */
  LAMBDA_ADVERTISE_GRPC: z
    .string()
    .regex(/^(\[[0-9a-fA-F:.]{2,45}\]|[A-Za-z0-9._-]{1,253}):\d{1,5}$/, 'must be host:port')
    .optional(),
  /** Functions are served by Host as `<name>.<domain>`. */
  LAMBDA_DOMAIN: z
    .string()
    .regex(/^[a-z0-9.-]+$/, 'must be a domain name in lower case')
    .default('localhost'),
  /** `postgres://…`; `?host=/folder` for a unix socket. */
  DATABASE_URL: z.string().regex(/^postgres(ql)?:\/\//, 'must be a postgres:// URL'),
  /** Redis in which control planes of one fleet share what is reserved. `redis://…`, `rediss://…`, `unix:///path`. */
  REDIS_URL: z
    .string()
    .regex(/^(rediss?:\/\/.|unix:\/\/\/.)/, 'must be a redis://, rediss:// or unix:/// URL')
    .optional(),
  /** Where the first API key is written when there is none yet. */
  LAMBDA_API_KEY_FILE: z.string().min(1).optional(),
  /** PEM files. Agents must present a certificate of this CA. */
  LAMBDA_TLS_CA: fileContent('the CA certificate'),
  LAMBDA_TLS_CERT: fileContent('the certificate'),
  LAMBDA_TLS_KEY: fileContent('the private key'),
  /** The CA's own private key. Without it this control plane lets no machine join and renews no certificates. */
  LAMBDA_TLS_CA_KEY: fileContent("the CA's private key").optional(),
  /** Development mode: nodes that run functions without isolation are let in. */
  LAMBDA_DEV: z.enum(['true', 'false']).default('false'),
  /** For tests, in development mode only: the file that names the moment at which this process is to be killed. */
  LAMBDA_CRASH_FILE: z.string().min(1).optional(),
  /** How long an invocation may wait for a node, milliseconds. */
  LAMBDA_QUEUE_BUDGET_MS: z.coerce.number().int().min(0).max(900_000).default(10_000),
  /** Invocations in progress at once in this process, waiting ones included; as many again of functions that have reserved some. */
  LAMBDA_CONCURRENCY_MAX: z.coerce.number().int().min(1).default(1_000),
  /** When it is stopped, it serves for so long while `/readyz` says that it leaves: load balancers have to see that. */
  LAMBDA_LEAVE_DELAY_MS: z.coerce.number().int().min(0).max(120_000).default(5_000),
  /** What is in progress then may take so long. */
  LAMBDA_LEAVE_S: z.coerce.number().min(0).max(900).default(90),
  /** Invocations in progress at once of one project, on all control planes together. */
  LAMBDA_ACCOUNT_CONCURRENCY: z.coerce.number().int().min(1).max(1_000_000).default(1_000),
  /** What `isolation: auto` means: gVisor wherever an eligible node has it, or runc always. */
  LAMBDA_ISOLATION_POLICY: z.enum(ISOLATION_POLICIES).default('gvisor'),
  /** Jobs among the async invocations in progress. Each holds its arguments, up to 6 MB. */
  LAMBDA_JOBS_CONCURRENCY: z.coerce.number().int().min(1).max(500).default(32),
  /** Queued jobs of one project that ask for the same runtime and memory. */
  LAMBDA_JOBS_QUEUED_MAX: z.coerce.number().int().min(0).default(1_000),
  /** Async invocations that run or look for a node at once, in this process. Each holds its payload, up to 1 MB. */
  LAMBDA_ASYNC_CONCURRENCY: z.coerce.number().int().min(1).max(5_000).default(128),
  /** Queued async invocations of one function, and the megabytes of their payloads. */
  LAMBDA_ASYNC_QUEUED_MAX: z.coerce.number().int().min(0).default(100_000),
  LAMBDA_ASYNC_QUEUED_MB_MAX: z.coerce.number().int().min(0).default(1_024),
  /** Networks that webhooks may be sent to though they are not public, like `10.1.0.0/16,10.2.0.7/32`. */
  LAMBDA_WEBHOOK_NETWORKS: z.string().default(''),
  /** Log lines are kept for so many days, and the oldest go earlier when all take more than so many megabytes. */
  LAMBDA_LOGS_DAYS: z.coerce.number().int().min(1).max(3_650).default(14),
  LAMBDA_LOGS_MB_MAX: z.coerce.number().int().min(1).default(1_024),
  /** Executions are kept for so many days, and of a project's so many at most. */
  LAMBDA_EXECUTIONS_DAYS: z.coerce.number().int().min(1).max(3_650).default(30),
  LAMBDA_EXECUTIONS_MAX: z.coerce.number().int().min(1).max(10_000_000).default(1_000_000),
  /** The layers of a container image together, unpacked. */
  LAMBDA_IMAGE_MB_MAX: z.coerce.number().int().min(1).max(10_240).default(2_048),
  LAMBDA_LOG_LEVEL: z.enum(LOG_LEVELS).default('info'),
});

export interface ControlPlaneConfig {
  readonly httpHost: string;
  readonly httpPort: number;
  readonly grpcHost: string;
  readonly grpcPort: number;
  readonly enrollPort: number;
  /** Undefined announces nothing. */
  readonly advertisedGrpc: string | undefined;
  readonly domain: string;
  readonly databaseUrl: Secret;
  readonly redisUrl: Secret | undefined;
  readonly apiKeyFile: string | undefined;
  readonly tls: { readonly ca: Buffer; readonly cert: Buffer; readonly key: Buffer };
  /** Undefined signs nothing. */
  readonly caKey: Secret | undefined;
  readonly development: boolean;
  readonly crashFile: string | undefined;
  readonly queueBudgetMs: number;
  readonly concurrencyMax: number;
  readonly leave: { readonly delayMs: number; readonly boundMs: number };
  readonly accountConcurrency: number;
  readonly isolationPolicy: IsolationPolicyName;
  readonly jobs: { readonly concurrencyMax: number; readonly queuedMax: number };
  readonly asyncConcurrencyMax: number;
  readonly asyncQueue: QueueLimits;
  readonly webhookNetworks: readonly string[];
  readonly logRetention: LogRetention;
  readonly executionRetention: ExecutionRetention;
  readonly imageBytesMax: number;
  /** The same in every fleet: agents and replicas have to agree. */
  readonly nodeLease: LeaseTimings;
  readonly logLevel: string;
}

/** Parses the environment once. Throws one error that names every variable that is wrong. */
export function readConfig(env: NodeJS.ProcessEnv = process.env): ControlPlaneConfig {
  const value = parseEnvironment('control plane', schema, env);
  return Object.freeze({
    httpHost: value.LAMBDA_HTTP_HOST,
    httpPort: value.LAMBDA_HTTP_PORT,
    grpcHost: value.LAMBDA_GRPC_HOST,
    grpcPort: value.LAMBDA_GRPC_PORT,
    enrollPort: value.LAMBDA_ENROLL_PORT,
    advertisedGrpc: value.LAMBDA_ADVERTISE_GRPC,
    domain: value.LAMBDA_DOMAIN,
    databaseUrl: new Secret(value.DATABASE_URL),
    redisUrl: value.REDIS_URL === undefined ? undefined : new Secret(value.REDIS_URL),
    apiKeyFile: value.LAMBDA_API_KEY_FILE === undefined ? undefined : resolve(value.LAMBDA_API_KEY_FILE),
    tls: { ca: value.LAMBDA_TLS_CA, cert: value.LAMBDA_TLS_CERT, key: value.LAMBDA_TLS_KEY },
    caKey: value.LAMBDA_TLS_CA_KEY === undefined ? undefined : new Secret(value.LAMBDA_TLS_CA_KEY.toString('utf8')),
    development: value.LAMBDA_DEV === 'true',
    crashFile: value.LAMBDA_DEV === 'true' ? value.LAMBDA_CRASH_FILE : undefined,
    queueBudgetMs: value.LAMBDA_QUEUE_BUDGET_MS,
    concurrencyMax: value.LAMBDA_CONCURRENCY_MAX,
    leave: { delayMs: value.LAMBDA_LEAVE_DELAY_MS, boundMs: value.LAMBDA_LEAVE_S * 1_000 },
    accountConcurrency: value.LAMBDA_ACCOUNT_CONCURRENCY,
    isolationPolicy: value.LAMBDA_ISOLATION_POLICY,
    jobs: { concurrencyMax: value.LAMBDA_JOBS_CONCURRENCY, queuedMax: value.LAMBDA_JOBS_QUEUED_MAX },
    asyncConcurrencyMax: value.LAMBDA_ASYNC_CONCURRENCY,
    asyncQueue: {
      queuedMax: value.LAMBDA_ASYNC_QUEUED_MAX,
      queuedBytesMax: value.LAMBDA_ASYNC_QUEUED_MB_MAX * 1024 * 1024,
    },
    webhookNetworks: value.LAMBDA_WEBHOOK_NETWORKS.split(',').filter((network) => network !== ''),
    logRetention: { days: value.LAMBDA_LOGS_DAYS, bytesMax: value.LAMBDA_LOGS_MB_MAX * 1024 * 1024 },
    executionRetention: { days: value.LAMBDA_EXECUTIONS_DAYS, perProjectMax: value.LAMBDA_EXECUTIONS_MAX },
    imageBytesMax: value.LAMBDA_IMAGE_MB_MAX * 1024 * 1024,
    nodeLease: LEASE_TIMINGS,
    logLevel: value.LAMBDA_LOG_LEVEL,
  });
}
