import { spawn } from 'node:child_process';
import type { LogFile } from './log-file.js';
import type { ChildProgram, Exit, RunningChild } from './supervised-child.js';

export interface NodeProgram {
  readonly name: string;
  /** The script to run. */
  readonly script: string;
  readonly environment: Readonly<Record<string, string>>;
  readonly log: LogFile;
}

const LAST_LINES = 15;

/**
 * A Node process of the fleet. It says `{ready: true}` over its IPC channel when it serves, and ends by itself when
 * that channel closes, which is how it notices our death.
 */
export function nodeProgram(program: NodeProgram): ChildProgram {
  return { name: program.name, start: () => Promise.resolve(startNode(program)) };
}

function startNode({ script, environment, log }: NodeProgram): RunningChild {
  const logStart = log.size;
  const child = spawn(process.execPath, [script], {
    env: { ...environment },
    stdio: ['ignore', log.fd, log.fd, 'ipc'],
    // A process group of its own: Ctrl-C in a terminal must reach the children from us, in order, and not all at once.
    detached: true,
  });
  const ready = new Promise<void>((settle) => {
    child.on('message', (message) => {
      if (typeof message === 'object' && message !== null && 'ready' in message && message.ready === true) settle();
    });
  });
  const exited = new Promise<Exit>((settle) => {
    const lastLines = () => log.tail(LAST_LINES, logStart);
    child.once('error', (err) => settle({ how: `could not be started: ${err.message}`, lastLines: lastLines() }));
    child.once('exit', (code, signal) => {
      const how = signal === null ? `ended with status ${code}` : `was killed by ${signal}`;
      settle({ how, lastLines: lastLines() });
    });
  });
  const signalGroup = (signal: NodeJS.Signals) => {
    if (child.pid === undefined) return;
    try {
      process.kill(-child.pid, signal);
    } catch {
      // Gone already, which is what was wanted.
    }
  };
  return {
    pid: child.pid ?? -1,
    ready,
    exited,
    terminate: () => child.kill('SIGTERM'),
    kill: () => signalGroup('SIGKILL'),
  };
}
