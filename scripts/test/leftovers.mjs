import { endProcess, hasEnvironment, processesWith } from '../setup/processes.mjs';

const MARK = 'LAMBDA_TEST_RUN';
/** Workers of the test runner end a moment after it. */
const GRACE_MS = 5_000;

/** What a child's environment holds, so that everything it starts can be found again. */
export function markedEnvironment(runId) {
  return { ...process.env, [MARK]: runId };
}

/**
 * Finds and ends processes that the run's tests left behind. Resolves with what they were.
 *
 * @param {string} runId
 * @returns {Promise<string[]>}
 */
export async function endLeftoverProcesses(runId) {
  const find = () => processesWith((_, pid) => hasEnvironment(pid, MARK, runId));
  const until = performance.now() + GRACE_MS;
  while (find().length > 0 && performance.now() < until) await new Promise((resolve) => setTimeout(resolve, 100));
  const left = find();
  for (const { pid } of left) await endProcess(pid, 2_000);
  return left.map(({ pid, commandLine }) => `process ${pid}: ${commandLine}`);
}

/**
 * The containers of an engine that only this run uses: after the tests there may be none.
 *
 * @param {import('dockerode')} docker
 * @returns {Promise<string[]>}
 */
export async function leftoverContainers(docker) {
  const containers = await docker.listContainers({ all: true });
  return containers.map(({ Names, Image, State }) => `container ${Names.join(', ')} of ${Image}, ${State}`);
}
