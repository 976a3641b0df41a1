import type { Print, RealmConsole } from './realm-console.js';

/** A job as its realm sees it: the compiled body. */
type JobFunction = (args: unknown) => Promise<unknown>;

interface Timer {
  readonly id: number;
  dueMs: number;
  /** Undefined for one that fires once. */
  readonly intervalMs: number | undefined;
  readonly run: () => void;
}

/** What the host drives a realm with. Everything it gives and gets beside the job's own values is a string or a number. */
export interface RealmControl {
  /** Calls the job with the JSON text `args`. */
  start(job: unknown, args: string): void;
  /** Runs one timer that is due. Returns the outcome when there is one, else the milliseconds until the next timer; -1 is none. */
  turn(): string | number;
  /** Makes a value that the realm threw the job's outcome. */
  fail(thrown: unknown): void;
}

/**
 * What an outcome's first character says of the rest: the result as JSON, an error as JSON `[type, message, stack]`, why
 * `args` are not JSON, why the result has no JSON.
 */
export const OUTCOME = { value: 'v', thrown: 't', invalidArgs: 'a', noJson: 'j' } as const;

/**
 * Sets up a realm and makes its control. Its source text is evaluated inside the realm, so it must not refer to anything
 * outside of itself. What it needs of the language is taken before user code can replace it.
 */
export function realmControl(
  makeConsole: (print: Print) => RealmConsole,
  kinds: typeof OUTCOME,
  print: Print,
): RealmControl {
  const DELAY_MS_MAX = 2_147_483_647;
  const { parse, stringify } = JSON;
  const { now } = Date;
  const ThrownError = Error;
  const NativePromise = Promise;
  const toText = String;

  const { console, shown } = makeConsole(print);
  const timers: Timer[] = [];
  let lastTimerId = 0;
  let outcome: string | undefined;

  const settle = (result: string): void => {
    outcome ??= result;
  };

  const member = (error: object, name: string): string => {
    try {
      const value: unknown = Reflect.get(error, name);
      return value === undefined ? '' : toText(value);
    } catch {
      return '';
    }
  };
  /** Joined by hand: for an array or object, a `toJSON` that user code gave to all of them would be asked. */
  const described = (thrown: unknown): string => {
    const isError = thrown instanceof ThrownError;
    const type = isError ? member(thrown, 'name') : '';
    const message = isError ? member(thrown, 'message') : shown(thrown);
    const stack = isError ? member(thrown, 'stack') : '';
    return `[${stringify(type || 'Error')},${stringify(message)},${stringify(stack)}]`;
  };
  const fail = (thrown: unknown): void => settle(kinds.thrown + described(thrown));
  const reason = (thrown: unknown): string =>
    thrown instanceof ThrownError ? member(thrown, 'message') : shown(thrown);

  const start = async (job: unknown, args: string): Promise<void> => {
    let parsed: unknown;
    try {
      parsed = args === '' ? {} : parse(args);
    } catch (thrown) {
      settle(kinds.invalidArgs + reason(thrown));
      return;
    }
    let result: unknown;
    try {
      result = await (job as JobFunction)(parsed);
    } catch (thrown) {
      fail(thrown);
      return;
    }
    try {
      settle(kinds.value + (stringify(result) ?? 'null'));
    } catch (thrown) {
      settle(kinds.noJson + reason(thrown));
    }
  };

  const turn = (): string | number => {
    if (outcome !== undefined) return outcome;
    let next: Timer | undefined;
    for (const timer of timers) {
      if (next === undefined || timer.dueMs < next.dueMs) next = timer;
    }
    if (next === undefined) return -1;
    const waitMs = next.dueMs - now();
    if (waitMs > 0) return waitMs;
    if (next.intervalMs === undefined) clear(next.id);
    else next.dueMs = now() + next.intervalMs;
    try {
      next.run();
    } catch (thrown) {
      fail(thrown);
    }
    return outcome ?? 0;
  };

  const delayOf = (delay: unknown): number => {
    const ms = Number(delay);
    return ms >= 1 && ms <= DELAY_MS_MAX ? Math.trunc(ms) : 1;
  };
  const add = (run: unknown, delay: unknown, repeats: boolean, args: readonly unknown[]): number => {
    if (typeof run !== 'function') throw new TypeError('The callback of a timer must be a function.');
    const ms = delayOf(delay);
    lastTimerId += 1;
    const intervalMs = repeats ? ms : undefined;
    timers.push({ id: lastTimerId, dueMs: now() + ms, intervalMs, run: () => run(...args) });
    return lastTimerId;
  };
  const clear = (id: unknown): void => {
    const at = timers.findIndex((timer) => timer.id === id);
    if (at >= 0) timers.splice(at, 1);
  };

  const globals: Record<string, unknown> = {
    console,
    setTimeout: (run: unknown, delay: unknown, ...args: unknown[]): number => add(run, delay, false, args),
    setInterval: (run: unknown, delay: unknown, ...args: unknown[]): number => add(run, delay, true, args),
    setImmediate: (run: unknown, ...args: unknown[]): number => add(run, 0, false, args),
    clearTimeout: clear,
    clearInterval: clear,
    clearImmediate: clear,
    sleep: (ms: unknown): Promise<void> =>
      new NativePromise((resolve) => {
        add(resolve, ms, false, []);
      }),
    queueMicrotask: (run: unknown): void => {
      if (typeof run !== 'function') throw new TypeError('The callback of a microtask must be a function.');
      void (async () => {
        await undefined;
        run();
      })();
    },
  };
  for (const name of Object.keys(globals)) {
    Object.defineProperty(globalThis, name, { value: globals[name], writable: true, configurable: true });
  }
  // Nothing may change while nobody of ours runs: a job that only waits for these would look as if it waited for nothing.
  for (const name of ['FinalizationRegistry', 'WeakRef', 'WebAssembly', 'SharedArrayBuffer', 'Atomics']) {
    Reflect.deleteProperty(globalThis, name);
  }

  return {
    start: (job, args) => void start(job, args),
    turn,
    fail,
  };
}
