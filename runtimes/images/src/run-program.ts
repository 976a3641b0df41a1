import { spawn } from 'node:child_process';

const OUTPUT_KEPT_BYTES = 64 * 1024;

export interface ProgramOptions {
  readonly deadlineMs: number;
  readonly cwd?: string;
}

/** A program could not be started, failed or ran too long. `output` is the end of what it printed. */
export class ProgramFailed extends Error {
  override readonly name = 'ProgramFailed';

  constructor(
    command: string,
    why: string,
    readonly output: string,
  ) {
    super(`${command} ${why}${output === '' ? '' : `:\n${lastLines(output, 8)}`}`);
  }
}

/**
 * Runs a program without a shell and without input, and resolves with its standard output.
 * It runs in a process group of its own, so that the deadline ends its children too.
 */
export async function runProgram(command: string, args: readonly string[], options: ProgramOptions): Promise<string> {
  const child = spawn(command, args, {
    cwd: options.cwd,
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  });
  let stdout = '';
  let output = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout = (stdout + text).slice(-OUTPUT_KEPT_BYTES);
    output = (output + text).slice(-OUTPUT_KEPT_BYTES);
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    output = (output + text).slice(-OUTPUT_KEPT_BYTES);
  });

  return new Promise((resolve, reject) => {
    let late = false;
    const killGroup = () => {
      try {
        if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
      } catch {
        // The group ended by itself in the meantime.
      }
    };
    const timer = setTimeout(() => {
      late = true;
      killGroup();
    }, options.deadlineMs);
    process.once('exit', killGroup);
    const settle = () => {
      clearTimeout(timer);
      process.off('exit', killGroup);
    };
    child.once('error', (error) => {
      settle();
      reject(new ProgramFailed(command, `could not be started (${error.message})`, ''));
    });
    child.once('close', (code, signal) => {
      settle();
      if (late) reject(new ProgramFailed(command, `took longer than ${options.deadlineMs / 1000} s`, output));
      else if (code === 0) resolve(stdout);
      else reject(new ProgramFailed(command, `ended with ${signal ?? `status ${code}`}`, output));
    });
  });
}

function lastLines(text: string, count: number): string {
  return text
    .trimEnd()
    .split('\n')
    .slice(-count)
    .map((line) => `  ${line}`)
    .join('\n');
}
