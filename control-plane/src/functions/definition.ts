import { FleetError } from '@lambda-fleet/common/errors';
import { ENVIRONMENT_BYTES_MAX, FUNCTION_NAME } from '@lambda-fleet/common/limits';
import { isRuntimeName, RUNTIME_NAMES, type RuntimeName, runtimeFamily } from '@lambda-fleet/common/runtime-names';
import { z } from 'zod';
import type { ImageSettings } from '../db/schema.js';

/** Everything about a function that its owner sets, code aside. */
export interface FunctionConfig {
  readonly name: string;
  readonly route: string;
  readonly httpAuth: 'key' | 'public';
  readonly runtime: RuntimeName;
  readonly handler: string;
  readonly memoryMb: number;
  readonly cpus: number;
  readonly timeoutMs: number;
  readonly initTimeoutMs: number;
  readonly keepAliveMs: number;
  readonly environment: Readonly<Record<string, string>>;
  readonly isolation: 'auto' | 'gvisor' | 'runc';
  readonly network: 'none' | 'egress';
  /** With `egress`: the only hosts it reaches; empty is every public address. */
  readonly egressHosts: readonly string[];
  /** Of the nodes that it may run on: they must have all of them. */
  readonly labels: Readonly<Record<string, string>>;
  /** Invocations at once in one sandbox. */
  readonly concurrency: number;
  /** Idle sandboxes are not frozen. */
  readonly keepRunning: boolean;
  /** Sandboxes that are kept ready, used or not. */
  readonly provisionedConcurrency: number;
  /** Whether executions keep the event and the result. */
  readonly keepPayloads: boolean;
  /** Of a container image; what is absent is as the image says. */
  readonly imageSettings: ImageSettings;
}

const wholeNumber = (min: number, max: number, unit: string) => {
  const message = `must be a whole number of ${unit} from ${min} to ${max}`;
  return z.int(message).min(min, message).max(max, message).optional();
};

const nameLike = (what: string) =>
  z.string('must be text').refine((name) => FUNCTION_NAME.test(name), {
    error: `must be 1 to 64 letters, digits, "-" or "_", like "${what}"`,
    params: { code: 'invalid_name' },
  });

export const functionName = nameLike('resize-image');

/** Set by the platform in every sandbox; a function cannot have its own value of these. */
const RESERVED_VARIABLES =
  /^(_HANDLER|_X_AMZN_TRACE_ID|AWS_(DEFAULT_)?REGION|AWS_EXECUTION_ENV|AWS_LAMBDA_.*|LAMBDA_(TASK_ROOT|RUNTIME_DIR|CHANNEL|NONCE))$/;

const environment = z
  .custom<Record<string, string>>(
    (value) => typeof value === 'object' && value !== null && !Array.isArray(value),
    'must be an object of names and text values',
  )
  .superRefine((variables, context) => {
    let bytes = 0;
    for (const [name, value] of Object.entries(variables)) {
      const refuse = (message: string) => context.addIssue({ code: 'custom', message, path: [name] });
      if (!/^[A-Za-z_][A-Za-z0-9_]{0,255}$/.test(name) || name === '__proto__') {
        return refuse('is not a variable name: letters, digits and "_", not starting with a digit');
      }
      if (RESERVED_VARIABLES.test(name)) return refuse('is set by the platform; choose another name');
      if (typeof value !== 'string') return refuse('must be text');
      if (/\0|\p{Surrogate}/u.test(value)) return refuse('must be valid Unicode without NUL characters');
      bytes += Buffer.byteLength(name) + Buffer.byteLength(value);
    }
    if (bytes > ENVIRONMENT_BYTES_MAX) {
      context.addIssue({
        code: 'custom',
        message: `holds ${bytes} bytes; at most ${ENVIRONMENT_BYTES_MAX} are allowed`,
      });
    }
  });

/** Names, not patterns: what a function may reach should be readable. The port is any. */
const EGRESS_HOST = /^(?=.{1,253}$)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*$/;
const EGRESS_HOSTS_MAX = 50;

const LABELS_MAX = 16;

const labels = z
  .record(
    z.string(),
    z.string('must be text').regex(/^[A-Za-z0-9._-]{0,63}$/, 'must be at most 63 letters, digits, ".", "_" or "-"'),
    'must be an object whose values are strings',
  )
  .superRefine((given, context) => {
    const keys = Object.keys(given);
    if (keys.length > LABELS_MAX) context.addIssue({ code: 'custom', message: `must be at most ${LABELS_MAX} labels` });
    for (const key of keys) {
      if (/^[A-Za-z0-9][A-Za-z0-9._/-]{0,62}$/.test(key)) continue;
      const message = `must have keys of 1 to 63 letters, digits, ".", "_", "/" or "-", not "${key.slice(0, 64)}"`;
      return context.addIssue({ code: 'custom', message });
    }
  });

const egressHosts = z
  .array(z.string('must be text').regex(EGRESS_HOST, 'must be a host name in lower case, like "api.example.com"'))
  .max(EGRESS_HOSTS_MAX, `must hold at most ${EGRESS_HOSTS_MAX} hosts`);

const programArguments = z
  .array(
    z
      .string('must be text')
      .regex(/^[^\0]*$/, 'must not contain NUL characters')
      .max(4_096, 'must be shorter'),
  )
  .max(64, 'must hold at most 64 arguments')
  .optional();

const imageSettings = z
  .strictObject(
    {
      port: z
        .int('must be a port from 1 to 65535, or null')
        .min(1, 'must be a port from 1 to 65535, or null')
        .max(65_535, 'must be a port from 1 to 65535, or null')
        .nullable()
        .optional(),
      entrypoint: programArguments,
      command: programArguments,
      workingDirectory: z
        .string('must be text')
        .regex(/^\/[^\0]{0,1023}$/, 'must be an absolute path')
        .optional(),
    },
    'must be an object',
  )
  .transform((settings): ImageSettings => settings);

/** What a request may say of a definition. Everything absent keeps its value or gets its default. */
export const definitionFields = {
  runtime: z
    .string('must be text')
    .refine(isRuntimeName, {
      error: `must be one of ${RUNTIME_NAMES.join(', ')}`,
      params: { code: 'unsupported_runtime' },
    })
    .optional(),
  handler: z
    .string('must be text')
    .regex(/^[\x21-\x7e]{1,256}$/, 'must be 1 to 256 ASCII characters without spaces, like "index.handler"')
    .optional(),
  memoryMb: wholeNumber(64, 10_240, 'megabytes'),
  cpus: z
    .number('must be a number from 0.1 to 16')
    .min(0.1, 'must be at least 0.1')
    .max(16, 'must be at most 16')
    .optional(),
  timeoutMs: wholeNumber(100, 900_000, 'milliseconds'),
  initTimeoutMs: wholeNumber(100, 900_000, 'milliseconds'),
  keepAliveMs: wholeNumber(0, 86_400_000, 'milliseconds'),
  environment: environment.optional(),
  route: nameLike('resize').optional(),
  httpAuth: z.enum(['key', 'public'], 'must be "key" or "public"').optional(),
  isolation: z.enum(['auto', 'gvisor', 'runc'], 'must be "auto", "gvisor" or "runc"').optional(),
  network: z.enum(['none', 'egress'], 'must be "none" or "egress"').optional(),
  egressHosts: egressHosts.optional(),
  labels: labels.optional(),
  concurrency: wholeNumber(1, 1_000, 'invocations'),
  keepRunning: z.boolean('must be true or false').optional(),
  provisionedConcurrency: wholeNumber(0, 1_000, 'sandboxes'),
  keepPayloads: z.boolean('must be true or false').optional(),
  image: imageSettings.optional(),
};

export const definitionChanges = z.strictObject(definitionFields, 'must be an object');
export type DefinitionChanges = z.infer<typeof definitionChanges>;

const DEFAULTS = {
  httpAuth: 'key',
  runtime: 'nodejs',
  memoryMb: 512,
  cpus: 1,
  timeoutMs: 30_000,
  initTimeoutMs: 10_000,
  keepAliveMs: 600_000,
  environment: {},
  isolation: 'auto',
  network: 'none',
  egressHosts: [],
  labels: {},
  concurrency: 1,
  keepRunning: false,
  provisionedConcurrency: 0,
  keepPayloads: true,
  imageSettings: {},
} as const;

/** An image's own is the last argument of its program. */
const DEFAULT_HANDLERS = {
  nodejs: 'index.handler',
  python: 'main.handler',
  provided: 'bootstrap',
  image: '',
} as const;

/**
 * The configuration of a new function, or that of `existing` with `changes` applied.
 *
 * @throws FleetError `invalid_request` when the fields do not go together
 */
export function configOf(name: string, changes: DefinitionChanges, existing?: FunctionConfig): FunctionConfig {
  const base = existing ?? DEFAULTS;
  const runtime = (changes.runtime ?? base.runtime) as RuntimeName;
  // A handler is written for a language: it does not outlive a change of it.
  const sameLanguage = existing !== undefined && runtimeFamily(existing.runtime) === runtimeFamily(runtime);
  const concurrency = changes.concurrency ?? base.concurrency;
  if (concurrency > 1 && runtimeFamily(runtime) !== 'nodejs') {
    throw new FleetError(
      'invalid_request',
      `concurrency must be 1 with the runtime ${runtime}: only the Node.js runtimes run several invocations in one sandbox.`,
      { field: 'concurrency' },
    );
  }
  const handler = changes.handler ?? (sameLanguage ? existing.handler : DEFAULT_HANDLERS[runtimeFamily(runtime)]);
  return {
    name,
    route: changes.route ?? existing?.route ?? name,
    httpAuth: changes.httpAuth ?? base.httpAuth,
    runtime,
    handler,
    memoryMb: changes.memoryMb ?? base.memoryMb,
    cpus: changes.cpus ?? base.cpus,
    timeoutMs: changes.timeoutMs ?? base.timeoutMs,
    initTimeoutMs: changes.initTimeoutMs ?? base.initTimeoutMs,
    keepAliveMs: changes.keepAliveMs ?? base.keepAliveMs,
    environment: changes.environment ?? base.environment,
    isolation: changes.isolation ?? base.isolation,
    network: changes.network ?? base.network,
    egressHosts: changes.egressHosts ?? base.egressHosts,
    labels: changes.labels ?? base.labels,
    concurrency,
    keepRunning: changes.keepRunning ?? base.keepRunning,
    provisionedConcurrency: changes.provisionedConcurrency ?? base.provisionedConcurrency,
    keepPayloads: changes.keepPayloads ?? base.keepPayloads,
    imageSettings: runtime === 'image' ? (changes.image ?? base.imageSettings) : {},
  };
}
