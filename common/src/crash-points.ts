import { readFileSync, unlinkSync } from 'node:fs';

/**
 * Moments at which a test has a control plane killed, because they are too short to be hit from outside.
 *
 * - `before-commit`: an async invocation was handed in and is about to be stored
 * - `after-commit`: it is stored, and its 202 is not sent yet
 * - `after-claim`: it was taken to be run
 * - `after-begin`: it is written where it goes, and nothing was sent
 * - `after-send`: it was sent to a node
 * - `after-result`: its result came, and is about to be written
 * - `after-settle`: its result is written, and the node is not told
 */
export const CRASH_POINTS = [
  'before-commit',
  'after-commit',
  'after-claim',
  'after-begin',
  'after-send',
  'after-result',
  'after-settle',
] as const;

export type CrashPoint = (typeof CRASH_POINTS)[number];

let file: string | undefined;

/** Arms the points of this process: the one whose name is in this file kills it, once, by SIGKILL, and removes the file. */
export function armCrashPoints(path: string | undefined): void {
  file = path;
}

/**
 * Costs a comparison unless armed.
 *
 * @param afterMs how much later it is, for what has to leave this process first
 */
export function crashPoint(point: CrashPoint, afterMs = 0): void {
  if (file === undefined) return;
  if (afterMs > 0) {
    setTimeout(() => crashPoint(point), afterMs);
    return;
  }
  try {
    if (readFileSync(file, 'utf8').trim() !== point) return;
    unlinkSync(file);
  } catch {
    // There is none at the moment.
    return;
  }
  process.kill(process.pid, 'SIGKILL');
}
