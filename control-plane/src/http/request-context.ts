/** What is known of a request before anything was read of it. */
export interface RequestContext {
  /** UUID of version 7: the id in `x-request-id`, and of the invocation if it becomes one. */
  readonly requestId: string;
  /** `performance.now()` */
  readonly arrivedAt: number;
}
