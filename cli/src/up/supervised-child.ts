import { strict as assert } from 'node:assert';
import { setTimeout as delay } from 'node:timers/promises';
import { DeadlineExceeded, withDeadline } from '@lambda-fleet/common/deadline';
import { errorText } from '@lambda-fleet/common/errors';
import type { RestartPolicy } from './restart-policy.js';

export interface Exit {
  /** Completes the sentence "the control plane …": `ended with status 1`, `was killed by SIGKILL`. */
  readonly how: string;
  readonly lastLines: readonly string[];
}

/** One life of a child process. */
export interface RunningChild {
  readonly pid: number;
  /** Settles when it serves. Stays open when it dies first. */
  readonly ready: Promise<void>;
  /** Settles at its end, for whatever reason. Never rejects. */
  readonly exited: Promise<Exit>;
  /** Asks it to end. */
  terminate(): void;
  /** Ends it and everything in its process group. */
  kill(): void;
}

export interface ChildProgram {
  /** For people: "control plane", "node-1". */
  readonly name: string;
  start(): Promise<RunningChild>;
}

export interface ChildEvents {
  /** It died and is started again after `delayMs`. */
  died(name: string, exit: Exit, delayMs: number): void;
  /** It serves again, `downMs` after its death. */
  recovered(name: string, downMs: number): void;
  /** It died too often and is given up. */
  failed(name: string, exit: Exit): void;
}

type State = 'idle' | 'starting' | 'ready' | 'waiting' | 'stopping' | 'stopped' | 'failed';

const NEXT: Readonly<Record<State, readonly State[]>> = {
  idle: ['starting', 'stopped'],
  starting: ['ready', 'waiting', 'stopping', 'failed'],
  ready: ['waiting', 'stopping', 'failed'],
  waiting: ['starting', 'stopping'],
  stopping: ['stopped'],
  stopped: [],
  failed: [],
};

const KILLED_WAIT_MS = 2_000;

/**
 * Keeps one child process alive until it is stopped or cannot live.
 *
 * - `idle`: not started yet.
 * - `starting`: the process is being made or does not serve yet.
 * - `ready`: it serves.
 * - `waiting`: it died; the next start comes after the policy's delay.
 * - `stopping`: it was asked to end; its death is expected.
 * - `stopped`: no process, and never again one.
 * - `failed`: no process; it died too often.
 *
 * One loop ({@link SupervisedChild.#live}) makes, watches and replaces the
 * process, so that there is never more than one.
 */
export class SupervisedChild {
  #state: State = 'idle';
  #running: RunningChild | undefined;
  #life: Promise<void> | undefined;
  readonly #stopAsked = new AbortController();
  readonly #firstReady: Promise<void>;
  #settleFirstReady: { resolve: () => void; reject: (reason: Error) => void } | undefined;

  constructor(
    private readonly program: ChildProgram,
    private readonly events: ChildEvents,
    private readonly policy: RestartPolicy,
  ) {
    this.#firstReady = new Promise((resolve, reject) => {
      this.#settleFirstReady = { resolve, reject };
    });
    // Nobody may be waiting when it fails or is stopped; `events.failed` is how that is told.
    this.#firstReady.catch(() => {});
  }

  get name(): string {
    return this.program.name;
  }

  get state(): State {
    return this.#state;
  }

  get pid(): number | undefined {
    return this.#running?.pid;
  }

  /** Starts it and waits until it serves for the first time, over restarts. Rejects when it fails or is stopped before. */
  async start(deadlineMs: number): Promise<void> {
    this.#life ??= this.#live();
    try {
      await withDeadline(`the start of the ${this.name}`, deadlineMs, this.#firstReady);
    } catch (err) {
      if (!(err instanceof DeadlineExceeded)) throw err;
      throw new Error(`The ${this.name} runs but did not become ready within ${deadlineMs / 1_000} s.`, { cause: err });
    }
  }

  /** Asks it to end, and kills it after `deadlineMs`. Resolves when there is no process. */
  async stop(deadlineMs: number): Promise<void> {
    if (this.#state === 'idle') this.#become('stopped');
    if (this.#state === 'stopped' || this.#state === 'failed') return;
    if (this.#state !== 'stopping') {
      this.#become('stopping');
      this.#stopAsked.abort();
      this.#running?.terminate();
    }
    try {
      await withDeadline(`stopping ${this.name}`, deadlineMs, this.#life ?? Promise.resolve());
    } catch {
      // It did not end by itself; what cannot be killed either is stuck in the kernel and not waited for.
      this.kill();
      await Promise.race([this.#life, delay(KILLED_WAIT_MS, undefined, { ref: false })]);
    }
  }

  kill(): void {
    this.#running?.kill();
  }

  async #live(): Promise<void> {
    let diedAt: number | undefined;
    for (;;) {
      this.#become('starting');
      const exit = await this.#oneLife(diedAt);
      diedAt = performance.now();
      if (this.#isStopping()) return this.#end('stopped', new Error(`The ${this.name} was stopped.`));
      const delayMs = this.policy.died();
      if (delayMs === undefined) {
        // First the event with everything that is known, then the short error for whoever waits for the start.
        this.events.failed(this.name, exit);
        return this.#end('failed', new Error(`The ${this.name} ${exit.how}, again and again.`));
      }
      this.#become('waiting');
      this.events.died(this.name, exit, delayMs);
      await delay(delayMs, undefined, { signal: this.#stopAsked.signal }).catch(() => {
        // Stopped while waiting: the check below ends the loop.
      });
      if (this.#isStopping()) return this.#end('stopped', new Error(`The ${this.name} was stopped.`));
    }
  }

  async #oneLife(diedAt: number | undefined): Promise<Exit> {
    let running: RunningChild;
    try {
      running = await this.program.start();
    } catch (err) {
      return { how: `could not be started: ${errorText(err)}`, lastLines: [] };
    }
    this.#running = running;
    // Stopped while the process was being made: it was not there to be told.
    if (this.#isStopping()) running.terminate();
    void running.ready.then(() => {
      if (this.#running !== running || this.#state !== 'starting') return;
      this.#become('ready');
      this.#settleFirstReady?.resolve();
      if (diedAt !== undefined) this.events.recovered(this.name, performance.now() - diedAt);
    });
    const exit = await running.exited;
    this.#running = undefined;
    return exit;
  }

  #end(state: 'stopped' | 'failed', reason: Error): void {
    this.#become(state);
    this.#settleFirstReady?.reject(reason);
  }

  /** A method, because the state changes during awaits, which the compiler's narrowing does not know. */
  #isStopping(): boolean {
    return this.#state === 'stopping';
  }

  #become(next: State): void {
    assert(NEXT[this.#state].includes(next), `${this.name}: ${this.#state} → ${next}`);
    this.#state = next;
  }
}
