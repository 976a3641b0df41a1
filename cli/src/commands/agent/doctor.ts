import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { access } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { CliError } from '../../cli-error.js';
import { EXIT } from '../../exit-codes.js';
import type { Output } from '../../output.js';
import type { Session } from '../../session.js';
import { printable } from '../../terminal-text.js';

export interface DoctorOptions {
  readonly dataDir?: string;
  readonly output: 'table' | 'json';
}

interface Check {
  readonly name: string;
  readonly status: 'ok' | 'warning' | 'failed';
  readonly detail: string;
  readonly advice: string;
}

const SCRIPT = fileURLToPath(new URL('../../../../node-agent/dist/doctor.js', import.meta.url));
const STATUS_WIDTH = 9;
const NAME_WIDTH = 16;

/**
 * Runs the agent's own doctor, as a process of its own, and prints a line for each check as it is done. Returns the exit
 * status: 0 when nothing failed.
 */
export async function doctor(session: Session, options: DoctorOptions): Promise<number> {
  await access(SCRIPT).catch(() => {
    throw new CliError(`${SCRIPT} is missing: the agent is not built.`, { next: 'Build it: npm run build' });
  });
  const { config, output } = session;
  const child = spawn(process.execPath, [SCRIPT], {
    env: { ...config.inherited, ...(options.dataDir === undefined ? {} : { LAMBDA_DATA_DIR: options.dataDir }) },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  // A terminal's Ctrl-C reaches the child too, which cleans up; it is waited for.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => child.kill(signal));
  const ended = once(child, 'close');
  const checks: Check[] = [];
  for await (const line of createInterface({ input: child.stdout })) {
    const check = JSON.parse(line) as Check;
    checks.push(check);
    if (options.output === 'table') await output.data(render(check, output));
  }
  const [code, signal] = (await ended) as [number | null, NodeJS.Signals | null];
  if (code !== 0) {
    throw new CliError(`The doctor ended early, with ${signal ?? `status ${code}`}.`, {
      next: 'What it wrote is above.',
    });
  }
  if (options.output === 'json') await output.data(`${JSON.stringify(checks, null, 2)}\n`);
  return checks.some(({ status }) => status === 'failed') ? EXIT.error : EXIT.ok;
}

function render({ name, status, detail, advice }: Check, output: Output): string {
  const { green, yellow, red } = output.colors;
  const color = { ok: green, warning: yellow, failed: red }[status];
  const word = status.padEnd(STATUS_WIDTH);
  const line = `${output.dataIsTerminal ? color(word) : word}${name.padEnd(NAME_WIDTH)}${printable(detail)}\n`;
  return advice === '' ? line : `${line}${' '.repeat(STATUS_WIDTH)}→ ${printable(advice)}\n`;
}
