import { ChannelClosed, type InvokeMessage, type InvokeResult } from '../channel/conversation.js';
import type { ProtocolViolation } from '../channel/protocol-violation.js';
import { type ApiState, INVALID_REQUEST_ID, invalidTransition, type Refusal } from './runtime-api-errors.js';

/** One event for a program. */
export interface ProgramInvocation {
  readonly message: InvokeMessage;
  readonly event: Buffer;
  /** Called when all of it has been taken. */
  readonly written: () => void;
  readonly resolve: (result: InvokeResult) => void;
  readonly reject: (reason: Error) => void;
}

/** Gives an event to a program that asked for one. */
export type Deliver = (invocation: ProgramInvocation) => void;

type Phase = 'queued' | 'delivered' | 'InvocationResponse' | 'InvocationErrorResponse';

interface Entry {
  readonly invocation: ProgramInvocation;
  phase: Phase;
}

/**
 * What a program may say when: the states of AWS's Runtime API, for one invocation at a time or for several.
 *
 * The program: started → ready with its first `next` | init error.
 * An invocation: queued until the program asks → delivered → InvocationResponse or InvocationErrorResponse while its answer arrives → over.
 *
 * With one invocation at a time, as on AWS: `next` while an answer arrives is refused; `next` while an event is delivered and not answered
 * gives the same event again, which helps a client whose connection broke; and a second answer is refused by state until the next `next`,
 * by its id afterwards. With several, each `next` gets an event of its own.
 */
export class ProgramInvocations {
  #init: 'started' | 'failed' | 'ready' = 'started';
  readonly #entries = new Map<string, Entry>();
  readonly #queue: Entry[] = [];
  readonly #waiting = new Set<Deliver>();
  /** Who wants to know whether the program goes on. */
  readonly #watching = new Set<(goesOn: boolean) => void>();
  #lastAnswered: string | undefined;

  constructor(
    /** Invocations at a time. */
    private readonly concurrency: number,
    private readonly ready: () => void,
  ) {}

  /** The agent has an event for the program. */
  add(invocation: ProgramInvocation): void {
    const entry: Entry = { invocation, phase: 'queued' };
    this.#entries.set(invocation.message.id, entry);
    this.#queue.push(entry);
    this.#match();
  }

  /** The program asks for an event. Returns why it gets none. Until it is delivered, `deliver` may be taken back. */
  next(deliver: Deliver): Refusal | undefined {
    if (this.#init === 'failed') return invalidTransition('InitError', 'Ready');
    const running = this.#alone();
    if (running?.phase === 'InvocationResponse' || running?.phase === 'InvocationErrorResponse') {
      return invalidTransition(running.phase, 'Ready');
    }
    this.#lastAnswered = undefined;
    this.#tellWatching(true);
    if (this.#init === 'started') {
      this.#init = 'ready';
      this.ready();
    }
    if (running?.phase === 'delivered') {
      deliver(running.invocation);
      return undefined;
    }
    this.#waiting.add(deliver);
    this.#match();
    return undefined;
  }

  takeBack(deliver: Deliver): void {
    this.#waiting.delete(deliver);
  }

  /** The event did not reach the program whole: whoever asks next gets it. */
  undelivered(id: string): void {
    const entry = this.#entries.get(id);
    if (entry?.phase !== 'delivered') return;
    entry.phase = 'queued';
    this.#queue.unshift(entry);
    this.#match();
  }

  /** The program begins to answer. Returns the invocation, which {@link answered} has to follow, or why it may not. */
  answer(id: string, phase: 'InvocationResponse' | 'InvocationErrorResponse'): ProgramInvocation | Refusal {
    const entry = this.#entries.get(id);
    if (entry === undefined || entry.phase === 'queued') {
      return id === this.#lastAnswered ? invalidTransition('RuntimeResponseSentState', phase) : INVALID_REQUEST_ID;
    }
    if (entry.phase !== 'delivered') return invalidTransition(entry.phase, phase);
    entry.phase = phase;
    return entry.invocation;
  }

  answered(id: string): void {
    this.#entries.delete(id);
    this.#lastAnswered = id;
  }

  /** The program says that it cannot start. Returns why it may not say so. */
  initError(): Refusal | undefined {
    if (this.#init !== 'started') return invalidTransition(this.#state(), 'InitError');
    this.#init = 'failed';
    return undefined;
  }

  /** Resolves with whether the program asks for an event, or is as it was, within `patienceMs`; false when it ends before. */
  goesOn(patienceMs: number): Promise<boolean> {
    return new Promise((resolve) => {
      const settle = (goesOn: boolean): void => {
        clearTimeout(timer);
        this.#watching.delete(settle);
        resolve(goesOn);
      };
      const timer = setTimeout(() => settle(true), patienceMs);
      this.#watching.add(settle);
    });
  }

  /** Whatever is not answered is rejected. An answer that has arrived whole is not here any more. */
  close(violation: ProtocolViolation | undefined): void {
    this.#tellWatching(false);
    for (const { invocation, phase } of this.#entries.values()) {
      invocation.reject(new ChannelClosed(violation, phase !== 'queued'));
    }
    this.#entries.clear();
    this.#queue.length = 0;
    this.#waiting.clear();
  }

  #tellWatching(goesOn: boolean): void {
    for (const watcher of [...this.#watching]) watcher(goesOn);
  }

  /** The invocation that runs, where only one may. */
  #alone(): Entry | undefined {
    if (this.concurrency > 1) return undefined;
    for (const entry of this.#entries.values()) if (entry.phase !== 'queued') return entry;
    return undefined;
  }

  #match(): void {
    for (const deliver of this.#waiting) {
      const entry = this.#queue.shift();
      if (entry === undefined) return;
      this.#waiting.delete(deliver);
      entry.phase = 'delivered';
      deliver(entry.invocation);
    }
  }

  #state(): ApiState {
    if (this.#init === 'failed') return 'InitError';
    const running = this.#alone()?.phase;
    if (running === 'InvocationResponse' || running === 'InvocationErrorResponse') return running;
    if (running === 'delivered') return 'Running';
    return this.#lastAnswered === undefined ? 'Ready' : 'RuntimeResponseSentState';
  }
}

export function isRefusal(value: ProgramInvocation | Refusal): value is Refusal {
  return 'status' in value;
}
