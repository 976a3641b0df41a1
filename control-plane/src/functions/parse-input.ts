import { type ErrorCode, FleetError } from '@lambda-fleet/common/errors';
import type { z } from 'zod';

/**
 * Checks input of a caller against a schema.
 *
 * @throws FleetError that names the first wrong field, with `details.field`. A schema
 * chooses another code than `invalid_request` with `params: {code}` on a custom issue.
 */
export function parseInput<T>(schema: z.ZodType<T>, input: unknown): T {
  const parsed = schema.safeParse(input);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  if (issue === undefined) throw new FleetError('invalid_request', 'The request is not valid.');
  const field = fieldName(issue.path);
  const code: ErrorCode =
    issue.code === 'custom' && issue.params?.code !== undefined ? (issue.params.code as ErrorCode) : 'invalid_request';
  if (issue.code === 'unrecognized_keys') {
    const names = issue.keys.map((key) => `"${key}"`).join(', ');
    const where = field === '' ? '' : ` in ${field}`;
    throw new FleetError(code, `There is no field ${names}${where}. Check the spelling or leave it out.`, {
      field: fieldName([...issue.path, issue.keys[0] ?? '']),
    });
  }
  if (field !== '' && issue.code === 'invalid_type' && valueAt(input, issue.path) === undefined) {
    throw new FleetError(code, `${field} is missing.`, { field });
  }
  const message = field === '' ? `The body ${issue.message}.` : `${field} ${issue.message}.`;
  throw new FleetError(code, message, field === '' ? undefined : { field });
}

function fieldName(path: readonly PropertyKey[]): string {
  return path
    .map((part, i) => (typeof part === 'number' ? `[${part}]` : `${i === 0 ? '' : '.'}${String(part)}`))
    .join('');
}

function valueAt(input: unknown, path: readonly PropertyKey[]): unknown {
  let at = input;
  for (const part of path) at = typeof at === 'object' && at !== null ? Reflect.get(at, part) : undefined;
  return at;
}
