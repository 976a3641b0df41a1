import type { BalancedAnswer } from './balancer.js';

export interface LoadFailure {
  /** Number of the call, from 1. */
  readonly call: number;
  /** Seconds after the load began. */
  readonly at: number;
  readonly what: string;
}

export interface LoadReport {
  readonly sent: number;
  readonly succeeded: number;
  readonly failures: readonly LoadFailure[];
}

export interface SteadyLoad {
  /** So far. */
  readonly sent: number;
  /** Calls that are not answered yet. */
  readonly open: number;
  /** Failures so far; read with `slice` to see those of a stretch. */
  readonly failures: readonly LoadFailure[];
  /** Sends no more and resolves when all are answered. */
  stop(): Promise<LoadReport>;
}

/** Calls at a fixed rate, whether or not earlier ones are answered. A call succeeds with status 200. */
export function startLoad(perSecond: number, call: (number: number) => Promise<BalancedAnswer>): SteadyLoad {
  const startedAt = performance.now();
  const failures: LoadFailure[] = [];
  const open = new Set<Promise<void>>();
  let sent = 0;
  let succeeded = 0;
  const seconds = (): number => Math.round(performance.now() - startedAt) / 1_000;

  const sendOne = async (number: number): Promise<void> => {
    try {
      const { status, headers, text } = await call(number);
      if (status === 200) succeeded += 1;
      else {
        const outcome = headers['x-lambda-outcome'] ?? '-';
        failures.push({ call: number, at: seconds(), what: `${status} ${outcome} ${text.slice(0, 300)}` });
      }
    } catch (err) {
      failures.push({ call: number, at: seconds(), what: `connection: ${String(err)}` });
    }
  };
  const timer = setInterval(() => {
    // A timer that is late sends what it owes.
    const due = Math.floor(((performance.now() - startedAt) / 1_000) * perSecond);
    while (sent < due) {
      sent += 1;
      const one = sendOne(sent);
      open.add(one);
      void one.then(() => open.delete(one));
    }
  }, 10);

  return {
    get sent() {
      return sent;
    },
    get open() {
      return open.size;
    },
    failures,
    stop: async () => {
      clearInterval(timer);
      await Promise.all(open);
      return { sent, succeeded, failures };
    },
  };
}
