/** Through the queue. */
const ASYNC_TRIGGERS = ['async', 'schedule', 'destination', 'webhook', 'replay', 'job'] as const;

/** Those that leave an execution. */
export const RECORDED_TRIGGERS = ['api', 'http', 'route', ...ASYNC_TRIGGERS] as const;

/** What caused an async invocation. */
export type AsyncTrigger = (typeof ASYNC_TRIGGERS)[number];

/** What caused an invocation; kept with its execution. */
export type Trigger = (typeof RECORDED_TRIGGERS)[number] | 'test' | 'deploy';

/** @param trigger as an agent repeats it */
export function isAsyncTrigger(trigger: string): boolean {
  return ASYNC_TRIGGERS.some((name) => name === trigger);
}

/**
 * Code checks at deploy, and tests of code that is not deployed.
 *
 * @param trigger as an agent may repeat it
 */
export function leavesNoExecution(trigger: string): boolean {
  return trigger === 'deploy' || trigger === 'test';
}
