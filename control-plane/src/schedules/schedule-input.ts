import { FleetError } from '@lambda-fleet/common/errors';
import { ASYNC_PAYLOAD_BYTES_MAX, FUNCTION_NAME } from '@lambda-fleet/common/limits';
import { validate as isUuid } from 'uuid';
import { z } from 'zod';
import { functionName } from '../functions/definition.js';
import { parseInput } from '../functions/parse-input.js';
import { tidyExpression } from './rhythm.js';
import { OVERLAPS, type ScheduleSettings } from './schedule.js';

/** A body with the longest payload, which may have been escaped, as `\u0000` is six bytes for one. */
export const SCHEDULE_BODY_BYTES_MAX = 6 * ASYNC_PAYLOAD_BYTES_MAX + 64 * 1024;

const DAY_MS = 86_400_000;

/** Restarts of the control plane lose no tick. */
const DEFAULTS = {
  timeZone: 'UTC',
  payload: null,
  enabled: true,
  overlap: 'skip',
  catchUpMs: 60_000,
  jitterMs: 0,
} as const;

const scheduleName = z
  .string('must be text')
  .refine((name) => FUNCTION_NAME.test(name), {
    error: 'must be 1 to 64 letters, digits, "-" or "_", like "nightly-report"',
    params: { code: 'invalid_name' },
  })
  .refine((name) => !isUuid(name), {
    error: 'must not look like an id',
    params: { code: 'invalid_name' },
  });

const milliseconds = (max: number) => {
  const message = `must be a whole number of milliseconds from 0 to ${max}`;
  return z.int(message).min(0, message).max(max, message).optional();
};

const fields = {
  expression: z.string('must be text'),
  timeZone: z.string('must be text').optional(),
  payload: z.unknown().optional(),
  enabled: z.boolean('must be true or false').optional(),
  overlap: z.enum(OVERLAPS, `must be one of ${OVERLAPS.join(', ')}`).optional(),
  catchUpMs: milliseconds(7 * DAY_MS),
  jitterMs: milliseconds(DAY_MS),
};

const creation = z.strictObject(
  { ...fields, function: functionName, name: scheduleName.optional() },
  'must be an object',
);
const changes = z.strictObject({ ...fields, expression: fields.expression.optional() }, 'must be an object');

export interface NewSchedule extends ScheduleSettings {
  readonly functionName: string;
  /** That of its function unless given. */
  readonly name: string;
}

/**
 * A schedule from the body of a request. Whether the expression and the zone make sense is not looked at.
 *
 * @throws FleetError `invalid_request`, `invalid_name`, `payload_too_large`
 */
export function parseNewSchedule(body: unknown): NewSchedule {
  const { function: functionName, name = functionName, ...settings } = parseInput(creation, body);
  return { functionName, name, ...DEFAULTS, ...stored(settings), expression: tidyExpression(settings.expression) };
}

/** What a body changes. `payload: null` removes the payload. @throws FleetError as above */
export function parseScheduleChanges(body: unknown): Partial<ScheduleSettings> {
  return stored(parseInput(changes, body));
}

type Given = z.infer<typeof changes>;

function stored({ payload, expression, ...rest }: Given): Partial<ScheduleSettings> {
  const given = Object.fromEntries(Object.entries(rest).filter(([, value]) => value !== undefined));
  return {
    ...given,
    ...(expression !== undefined && { expression: tidyExpression(expression) }),
    ...(payload !== undefined && { payload: payload === null ? null : payloadOf(payload) }),
  };
}

function payloadOf(payload: unknown): Buffer {
  let text: string;
  try {
    text = JSON.stringify(payload);
  } catch (err) {
    // JSON.parse reads any depth, JSON.stringify does not write it.
    throw new FleetError('invalid_request', 'payload is nested too deeply.', { field: 'payload' }, { cause: err });
  }
  const bytes = Buffer.from(text);
  if (bytes.length <= ASYNC_PAYLOAD_BYTES_MAX) return bytes;
  throw new FleetError(
    'payload_too_large',
    `payload has ${bytes.length} bytes as JSON; at most ${ASYNC_PAYLOAD_BYTES_MAX} are allowed. Pass a reference to the data instead.`,
    { field: 'payload' },
  );
}
