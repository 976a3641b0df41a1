import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { errorText } from './errors.js';

/** A variable that names a file; parsed to its bytes. `what` names the content in the error. */
export function fileContent(what: string) {
  return z.string().transform((path, ctx) => {
    try {
      return readFileSync(path);
    } catch (err) {
      ctx.addIssue({ code: 'custom', message: `${what} cannot be read: ${errorText(err)}` });
      return z.NEVER;
    }
  });
}

export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'silent'] as const;

/**
 * Parses an environment once, at the start of a process.
 *
 * @throws one Error that names every variable that is wrong and why. Values are not in it: they may be secrets.
 */
export function parseEnvironment<S extends z.ZodType>(process: string, schema: S, env: NodeJS.ProcessEnv): z.output<S> {
  const parsed = schema.safeParse(env);
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`);
  throw new Error(`The ${process} cannot start with this environment. ${problems.join('; ')}`);
}
