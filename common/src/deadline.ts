/** Thrown by {@link withDeadline}. `what` names the work that was too slow. */
export class DeadlineExceeded extends Error {
  override readonly name = 'DeadlineExceeded';

  constructor(
    readonly what: string,
    readonly deadlineMs: number,
  ) {
    super(`${what} took longer than ${deadlineMs} ms`);
  }
}

/**
 * Rejects with {@link DeadlineExceeded} when `work` has not settled after `deadlineMs`.
 *
 * The work itself goes on: what it holds must be released by its owner. A late
 * rejection of it is swallowed here, because nobody is left to handle it.
 */
export async function withDeadline<T>(what: string, deadlineMs: number, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new DeadlineExceeded(what, deadlineMs)), deadlineMs);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
