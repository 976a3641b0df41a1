import { constants, createContext, Script } from 'node:vm';
import { Fault } from '../function-error.js';
import { NativePromise, parseJson } from '../intrinsics.js';
import { type Print, REALM_LEVELS, realmConsole } from './realm-console.js';
import { OUTCOME, realmControl } from './realm-control.js';

/** Without code from text there is no way from any value to a function that its owner did not give away. */
const CODE_GENERATION = { strings: false, wasm: false };

/**
 * Strict, so that none of its functions has a `caller`. Named like this file, so that its lines are left out of traces.
 */
const REALM_SOURCE = `'use strict'; (print) => (${String(realmControl)})(${String(realmConsole)}, ${JSON.stringify(OUTCOME)}, print)`;

export type JobPrint = (level: (typeof REALM_LEVELS)[number], text: string) => void;

/**
 * One run of a job in a realm of its own.
 *
 * What enters the realm is the job's source, one JSON text and `print`, which is hidden there and has no prototype. What
 * leaves it are numbers and texts. Anything else of it, such as a promise or what it threw, is never looked at out here: a
 * getter, a `then` or a proxy would run with the host's objects at hand. It is only handed back in.
 */
export class JobRun {
  /** The result as JSON text; rejects with what the job threw, or a Fault. */
  readonly result: Promise<string>;
  readonly #turnRealm: () => string | number;
  readonly #failRealm: (thrown: unknown) => void;
  #resolve: (json: string) => void = () => {};
  #reject: (reason: Error) => void = () => {};

  constructor(job: Script, args: string, print: JobPrint) {
    this.result = new NativePromise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    const realm = createContext(constants.DONT_CONTEXTIFY as never, { codeGeneration: CODE_GENERATION });
    const makeControl = new Script(REALM_SOURCE, { filename: __filename }).runInContext(realm);
    const { start, turn, fail } = makeControl(hidden(print));
    this.#turnRealm = turn;
    this.#failRealm = fail;
    start(job.runInContext(realm), args);
    setImmediate(this.#turn);
  }

  /** A rejection in the realm that nobody handled. */
  fail(reason: unknown): void {
    // Called without a receiver, here and below: `this` would be the host's.
    const fail = this.#failRealm;
    fail(reason);
  }

  /** Runs in a turn of its own, so that whatever can happen in the realm without a timer has happened. */
  readonly #turn = (): void => {
    const turn = this.#turnRealm;
    const answer: unknown = turn();
    if (typeof answer === 'string') {
      this.#settle(answer);
    } else if (answer === 0) {
      setImmediate(this.#turn);
    } else if (typeof answer === 'number' && answer > 0) {
      setTimeout(this.#turn, answer);
    } else {
      this.#reject(new Fault('Runtime.JobUnsettled', 'The job waits for a promise that nothing is left to settle.'));
    }
  };

  #settle(outcome: string): void {
    const rest = outcome.slice(1);
    switch (outcome[0]) {
      case OUTCOME.value:
        this.#resolve(rest);
        break;
      case OUTCOME.invalidArgs:
        this.#reject(new Fault('Runtime.InvalidEvent', `The event is not JSON: ${rest}`));
        break;
      case OUTCOME.noJson:
        this.#reject(new Fault('Runtime.MarshalError', `The job's result cannot be sent as JSON: ${rest}`));
        break;
      default:
        this.#reject(thrownError(rest));
    }
  }
}

/** True for a promise of another realm. Looks at nothing that user code could have changed: a promise is never a proxy. */
export function isForeign(promise: Promise<unknown>): boolean {
  return Object.getPrototypeOf(promise) !== NativePromise.prototype;
}

function hidden(print: JobPrint): Print {
  const guarded: Print = (level, text) => {
    const name = REALM_LEVELS[level];
    if (name !== undefined && typeof text === 'string') print(name, text);
  };
  return Object.freeze(Object.setPrototypeOf(guarded, null));
}

function thrownError(json: string): Error {
  const [name, message, stack] = parseJson(json) as [string, string, string];
  return Object.assign(new Error(message), { name, stack });
}
