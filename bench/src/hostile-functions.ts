import { readFile } from 'node:fs/promises';

/** Functions that harm whom they can; the agent's sandbox probes run them too. */
const FOLDER = new URL('../../node-agent/probes/hostile/neighbours/', import.meta.url);

export interface HostileFunction {
  readonly name: string;
  readonly runtime: 'nodejs' | 'python';
  readonly source: string;
  readonly event: object;
  readonly timeoutMs: number;
  /** It does harm while its code is loaded, and so cannot be deployed. */
  readonly whileLoading: boolean;
  /** Error types that a call of it may end with; empty is a result. */
  readonly ends: readonly string[];
}

interface Listed {
  readonly name: string;
  readonly file: string;
  readonly event?: object;
  readonly timeoutMs?: number;
  readonly whileLoading?: boolean;
  readonly ends: readonly string[];
}

export async function readHostileFunctions(): Promise<readonly HostileFunction[]> {
  const listed = JSON.parse(await readFile(new URL('neighbours.json', FOLDER), 'utf8')) as readonly Listed[];
  return Promise.all(
    listed.map(async ({ file, event = {}, timeoutMs = 2_000, whileLoading = false, ...rest }) => ({
      ...rest,
      runtime: file.endsWith('.py') ? ('python' as const) : ('nodejs' as const),
      source: await readFile(new URL(file, FOLDER), 'utf8'),
      event,
      timeoutMs,
      whileLoading,
    })),
  );
}
