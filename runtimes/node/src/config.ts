/** What the agent tells a runtime through its environment. */
export interface BootConfig {
  /** See `openChannel`. */
  readonly channel: string;
  readonly nonce: string;
  readonly taskRoot: string;
  /** Folder of what the platform compiled; undefined where there is none. */
  readonly codeCache: string | undefined;
}

/**
 * Takes the boot variables out of the environment: user code must not find the
 * channel or what proves this sandbox to the agent.
 */
export function takeBootConfig(): BootConfig {
  const { LAMBDA_CHANNEL: channel, LAMBDA_NONCE: nonce, LAMBDA_TASK_ROOT: taskRoot } = process.env;
  if (!channel || !nonce || !taskRoot) {
    throw new Error('LAMBDA_CHANNEL, LAMBDA_NONCE and LAMBDA_TASK_ROOT must be set: a node agent starts this program.');
  }
  delete process.env.LAMBDA_CHANNEL;
  delete process.env.LAMBDA_NONCE;
  const codeCache = process.env.LAMBDA_CODE_CACHE || undefined;
  delete process.env.LAMBDA_CODE_CACHE;
  return { channel, nonce, taskRoot, codeCache };
}
