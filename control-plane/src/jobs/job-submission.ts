import { FleetError } from '@lambda-fleet/common/errors';
import { JOB_CODE_BYTES_MAX, PAYLOAD_BYTES_MAX } from '@lambda-fleet/common/limits';
import { isRuntimeName, RUNTIME_NAMES, type RuntimeName, runtimeFamily } from '@lambda-fleet/common/runtime-names';
import { v7 as uuidv7 } from 'uuid';
import { z } from 'zod';
import { configOf, definitionFields } from '../functions/definition.js';
import { parseInput } from '../functions/parse-input.js';
import type { NewJob } from './job.js';

/** A body with the longest code and arguments: both may have been escaped, as `\u0000` is six bytes for one. */
export const SUBMISSION_BYTES_MAX = PAYLOAD_BYTES_MAX + 6 * JOB_CODE_BYTES_MAX + 64 * 1024;

const RETRIES_MAX = 5;

const JOB_RUNTIMES = RUNTIME_NAMES.filter((name) => ['nodejs', 'python'].includes(runtimeFamily(name)));

const submission = z.strictObject(
  {
    code: z
      .string('must be text')
      .min(1, 'must not be empty')
      .refine((text) => Buffer.byteLength(text) <= JOB_CODE_BYTES_MAX, {
        error: `must have at most ${JOB_CODE_BYTES_MAX} bytes`,
        params: { code: 'payload_too_large' },
      })
      .refine((text) => text.isWellFormed() && !text.includes('\0'), 'must be valid Unicode without NUL characters'),
    args: z.unknown().optional(),
    runtime: z
      .string('must be text')
      .refine((name): name is RuntimeName => isRuntimeName(name) && JOB_RUNTIMES.includes(name), {
        error: `must be one of ${JOB_RUNTIMES.join(', ')}`,
        params: { code: 'unsupported_runtime' },
      })
      .optional(),
    timeoutMs: definitionFields.timeoutMs,
    memoryMb: definitionFields.memoryMb,
    retries: z
      .int(`must be a whole number from 0 to ${RETRIES_MAX}`)
      .min(0, 'must be at least 0')
      .max(RETRIES_MAX, `must be at most ${RETRIES_MAX}`)
      .optional(),
  },
  'must be an object',
);

/**
 * A job from the body of a request. The code is not looked at.
 *
 * @param id UUID of version 7
 *
 * @throws FleetError `invalid_request`, `unsupported_runtime`, `payload_too_large`
 */
export function parseSubmission(projectId: string, body: unknown, id: string = uuidv7()): NewJob {
  const { code, args, retries = 0, ...limits } = parseInput(submission, body);
  const text = argsText(args);
  const argsBytes = Buffer.byteLength(text);
  if (argsBytes > PAYLOAD_BYTES_MAX) {
    throw new FleetError(
      'payload_too_large',
      `args has ${argsBytes} bytes as JSON; at most ${PAYLOAD_BYTES_MAX} are allowed. Pass a reference to the data instead.`,
      { field: 'args' },
    );
  }
  const { runtime, memoryMb, timeoutMs, initTimeoutMs } = configOf('job', limits);
  const createdAt = timeOf(id);
  return {
    id,
    projectId,
    runtime,
    memoryMb,
    timeoutMs,
    initTimeoutMs,
    retries,
    code,
    args: text,
    argsBytes,
    createdAt,
  };
}

/** When an id of version 7 was made. */
export function timeOf(id: string): Date {
  return new Date(Number.parseInt(id.replace('-', '').slice(0, 12), 16));
}

function argsText(args: unknown): string {
  try {
    return JSON.stringify(args === undefined ? {} : args);
  } catch (err) {
    // JSON.parse reads any depth, JSON.stringify does not write it.
    throw new FleetError('invalid_request', 'args is nested too deeply.', { field: 'args' }, { cause: err });
  }
}
