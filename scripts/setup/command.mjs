import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const OUTPUT_KEPT_CHARS = 2 * 1024 * 1024;
const HEARTBEAT_MS = 30_000;
const TERM_GRACE_MS = 10_000;

/** @type {Set<import('node:child_process').ChildProcess>} */
const running = new Set();
let ending = false;

/**
 * @typedef {object} CommandResult
 * @property {boolean} ok
 * @property {string} output the end of what it printed, both streams
 * @property {string} ended "status 1", "SIGKILL", "not found", "took longer than 60 s"
 */

/**
 * Runs a program without a shell and without input, in a process group of its own, and resolves when it and its
 * output have ended. Never rejects. Says every 30 s that it still runs. After {@link endAll} it starts nothing more
 * and never resolves, so that an interrupted run does not go on with its next step.
 *
 * @param {string} command
 * @param {readonly string[]} args
 * @param {{deadlineMs: number, cwd?: string, env?: NodeJS.ProcessEnv, what?: string, onLine?: (line: string) => void}} options
 * @returns {Promise<CommandResult>}
 */
export function run(command, args, options) {
  if (ending) return new Promise(() => {});
  const startedAt = performance.now();
  const child = spawn(command, args, {
    cwd: options.cwd,
    env: options.env ?? process.env,
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  });
  running.add(child);
  let output = '';
  let late = false;
  for (const stream of [child.stdout, child.stderr]) {
    let rest = '';
    stream.setEncoding('utf8').on('data', (text) => {
      output = (output + text).slice(-OUTPUT_KEPT_CHARS);
      if (options.onLine === undefined) return;
      const lines = (rest + text).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) options.onLine(line);
    });
  }
  const deadline = setTimeout(() => {
    late = true;
    void endGroup(child);
  }, options.deadlineMs);
  const heartbeat = setInterval(() => {
    const seconds = Math.round((performance.now() - startedAt) / 1_000);
    process.stderr.write(`        … ${options.what ?? command} still runs after ${seconds} s\n`);
  }, HEARTBEAT_MS);

  return new Promise((resolve) => {
    const settle = (ended, ok) => {
      clearTimeout(deadline);
      clearInterval(heartbeat);
      running.delete(child);
      resolve({ ok, output, ended });
    };
    child.once('error', (error) => settle(error.message, false));
    child.once('close', (code, signal) => {
      if (late) settle(`took longer than ${options.deadlineMs / 1_000} s and was ended`, false);
      else settle(signal ?? `status ${code}`, code === 0);
    });
  });
}

/** Ends every command that runs, with all their children. */
export async function endAll() {
  ending = true;
  await Promise.all([...running].map(endGroup));
}

async function endGroup(child) {
  if (child.pid === undefined) return;
  signalGroup(child.pid, 'SIGTERM');
  const until = performance.now() + TERM_GRACE_MS;
  while (running.has(child) && performance.now() < until) await new Promise((resolve) => setTimeout(resolve, 50));
  signalGroup(child.pid, 'SIGKILL');
}

function signalGroup(pid, signal) {
  try {
    process.kill(-pid, signal);
  } catch (error) {
    // ESRCH: the whole group ended by itself.
    if (error.code !== 'ESRCH') throw error;
  }
}

/** Path of a program that npm installed in this repository. */
export function npmProgram(name) {
  return fileURLToPath(new URL(`../../node_modules/.bin/${name}`, import.meta.url));
}
