import type { SandboxExit, SandboxInstance } from '../drivers/sandbox-driver.js';

/** How an instance ended, or undefined when it did not within `graceMs`. */
export async function exitWithin(
  instance: SandboxInstance | undefined,
  graceMs: number,
): Promise<SandboxExit | undefined> {
  if (instance === undefined) return undefined;
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<undefined>((resolve) => {
    timer = setTimeout(() => resolve(undefined), graceMs);
  });
  const exit = await Promise.race([instance.exited, late]);
  clearTimeout(timer);
  return exit;
}

export function describeExit(exit: SandboxExit | undefined): string {
  if (exit?.outOfMemory) return 'out of memory';
  if (exit?.signal !== undefined) return `signal ${exit.signal}`;
  return exit?.code === undefined ? 'status unknown' : `status ${exit.code}`;
}
