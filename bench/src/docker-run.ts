import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

const DEADLINE_MS = 60_000;

/**
 * How long `docker run` takes to start a program of an image and to end it, milliseconds: what starting a function this way
 * would cost, from a shell as people do it.
 */
export async function timeDockerRun(
  image: string,
  command: readonly string[],
  engineRuntime: string | undefined,
  signal: AbortSignal,
): Promise<number> {
  const runtime = engineRuntime === undefined ? [] : [`--runtime=${engineRuntime}`];
  const startedAt = performance.now();
  await promisify(execFile)('docker', ['run', '--rm', '--network=none', ...runtime, image, ...command], {
    timeout: DEADLINE_MS,
    signal,
  });
  return performance.now() - startedAt;
}
