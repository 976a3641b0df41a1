import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Channel } from './channel.js';
import { useCodeCache } from './code-cache/node-compile-cache.js';
import { setEnvironment } from './environment.js';
import { encodeBytes, encodeFrame, type Frame, FrameType, ProtocolViolation } from './frames.js';
import { errorMembers, Fault } from './function-error.js';
import type { IdleWatch } from './idle-watch.js';
import { exit, quote } from './intrinsics.js';
import type { Job } from './job/job.js';
import { explainLoadError } from './load-handler.js';
import type { LogCapture } from './log-capture.js';
import { type InitMessage, type InvokeMessage, readInit, readInvoke } from './messages.js';
import type { Preload } from './preload.js';
import { type Serve, serveHandler } from './serve-handler.js';

/** Exit statuses after an uncaught exception: while an invocation ran, and otherwise. */
const EXIT_BUSY = 129;
const EXIT_NOT_BUSY = 128;

type State =
  | { readonly name: 'blank' }
  | { readonly name: 'initialising'; readonly init: InitMessage }
  | { readonly name: 'serving'; readonly concurrency: number; readonly serve: Serve }
  | { readonly name: 'failed' }
  | { readonly name: 'compiling' };

type StateName = State['name'];

const NEXT: Readonly<Record<StateName, readonly StateName[]>> = {
  blank: ['initialising', 'compiling'],
  initialising: ['serving', 'failed'],
  serving: [],
  failed: [],
  compiling: [],
};

/**
 * The runtime's side of the channel after HELLO.
 *
 * - `blank`: no code yet; INIT → initialising, COMPILE → compiling.
 * - `initialising`: user code loads; READY → serving, INIT_ERROR → failed.
 * - `serving`: INVOKE starts the handler, up to INIT's `concurrency` at a time, each until its RESPONSE or ERROR.
 * - `failed`: INIT_ERROR is sent; only the agent ends this.
 * - `compiling`: entered by COMPILE from blank; COMPILED frames are sent, and then only the agent ends this.
 *
 * PING is answered in every state. Any other frame in another state is a violation.
 */
export class Conversation {
  #state: State = { name: 'blank' };
  /** Ids of the invocations that run, as JSON text. */
  readonly #running = new Set<string>();
  #job: Job | undefined;

  constructor(
    private readonly channel: Channel,
    private readonly logs: LogCapture,
    private readonly taskRoot: string,
    private readonly codeCache: string | undefined,
    private readonly watch: IdleWatch,
    private readonly preload: Preload,
  ) {}

  /** @throws ProtocolViolation */
  onFrame(frame: Frame): void {
    const state = this.#state;
    if (frame.type === FrameType.PING) {
      this.channel.send(encodeFrame(FrameType.PONG, '{}'));
    } else if (frame.type === FrameType.INVOKE && state.name === 'serving') {
      this.#onInvoke(readInvoke(frame), frame.body, state.concurrency, state.serve);
    } else if (frame.type === FrameType.INIT && state.name === 'blank') {
      const init = readInit(frame);
      this.#enter({ name: 'initialising', init });
      void this.#initialise(init);
    } else if (frame.type === FrameType.COMPILE && state.name === 'blank') {
      this.#enter({ name: 'compiling' });
      void this.#compile();
    } else {
      throw new ProtocolViolation(`frame 0x${frame.type.toString(16)} while ${state.name}`);
    }
  }

  /** A rejection that no code handled. */
  onUnhandled(reason: unknown, promise: Promise<unknown>): void {
    if (this.#job?.takesRejection(reason, promise) !== true) {
      this.onUncaught(reason);
    }
  }

  /** An exception that no code caught. The process's state is unknown: it ends. */
  onUncaught(thrown: unknown): void {
    const state = this.#state;
    switch (state.name) {
      case 'failed':
        // The agent has the reason already.
        return;
      case 'compiling':
        // Modules that were made to fail, so that they are not run.
        return;
      case 'initialising':
        void this.#failInit(state.init, thrown);
        break;
      default:
        if (this.#running.size > 0) {
          this.#failRunning(thrown);
        }
        this.logs.report('ERROR', uncaughtText(thrown));
        exit(EXIT_NOT_BUSY);
    }
  }

  /** Nobody knows whose code it was, or what it left undone: it is the error of every invocation that runs. */
  #failRunning(thrown: unknown): never {
    this.logs.flush();
    const members = errorMembers(thrown);
    for (const id of this.#running) {
      if (!this.channel.sendLast(encodeFrame(FrameType.ERROR, `{"id":${id},"exiting":true,${members}}`))) {
        break;
      }
    }
    exit(EXIT_BUSY);
  }

  #enter(next: State): void {
    this.preload.stop();
    if (!NEXT[this.#state.name].includes(next.name)) {
      throw new Error(`a runtime cannot go from ${this.#state.name} to ${next.name}`);
    }
    this.#state = next;
  }

  async #initialise(init: InitMessage): Promise<void> {
    setEnvironment(init, this.taskRoot);
    useCodeCache(this.codeCache, this.taskRoot);
    try {
      const serve = await this.#load(init);
      // A rejection that nobody handles is reported after this turn, and is still the fault of loading.
      await nextTurn();
      if (this.#state.name === 'initialising') {
        this.logs.flush();
        this.#enter({ name: 'serving', concurrency: init.concurrency, serve });
        this.channel.send(encodeFrame(FrameType.READY, '{}'));
      }
    } catch (thrown) {
      await this.#failInit(init, thrown);
    }
  }

  async #load(init: InitMessage): Promise<Serve> {
    if (!init.isJob) {
      return await serveHandler(init, this.taskRoot, this.watch);
    }
    // Loaded here, like the compiler below, so that other sandboxes do not start slower for it.
    const { Job } = await import('./job/job.js');
    this.#job = await Job.load(this.taskRoot, this.logs);
    return this.#job.serve;
  }

  /** The first failure counts: Node 20 reports one inside an imported CommonJS module twice. */
  async #failInit(init: InitMessage, thrown: unknown): Promise<void> {
    if (this.#state.name !== 'initialising') {
      return;
    }
    this.#enter({ name: 'failed' });
    // Explaining reads the code's files, which may vanish meanwhile: the bare error is still the truth.
    const fault = await explainLoadError(thrown, init.handler, this.taskRoot).catch(() => thrown);
    this.logs.flush();
    this.channel.send(encodeFrame(FrameType.INIT_ERROR, `{${errorMembers(fault)}${locationMember(fault)}}`));
  }

  async #compile(): Promise<void> {
    try {
      const { compileTree } = await import('./code-cache/compile-tree.js');
      for (const { path, bytes } of await compileTree(this.taskRoot)) {
        this.channel.send(encodeBytes(FrameType.COMPILED, `{"path":${quote(path)}}`, bytes));
      }
      this.channel.send(encodeFrame(FrameType.COMPILED, '{"done":true}'));
    } catch {
      // A folder that cannot be written to, say. The agent sees that nothing came of it.
      exit(1);
    }
  }

  #onInvoke(invoke: InvokeMessage, body: Buffer, concurrency: number, serve: Serve): void {
    const id = quote(invoke.id);
    if (this.#running.size >= concurrency || this.#running.has(id)) {
      throw new ProtocolViolation(`INVOKE ${id} while ${this.#running.size} of ${concurrency} run`);
    }
    this.#running.add(id);
    // An asynchronous context would show on the promises of a job's realm, which logs by its id anyway.
    void (this.#job === undefined
      ? this.logs.during(id, () => this.#invoke(id, invoke, body, serve))
      : this.#invoke(id, invoke, body, serve));
  }

  async #invoke(id: string, invoke: InvokeMessage, body: Buffer, serve: Serve): Promise<void> {
    let result: Buffer;
    try {
      result = await serve(id, invoke, body);
    } catch (thrown) {
      result = encodeFrame(FrameType.ERROR, `{"id":${id},${errorMembers(thrown)}}`);
    }
    this.logs.end(id);
    this.#running.delete(id);
    this.channel.send(result);
  }
}

function locationMember(thrown: unknown): string {
  if (!(thrown instanceof Fault) || thrown.location === undefined) {
    return '';
  }
  const { file, line, column } = thrown.location;
  return `,"location":{"file":${quote(file)},"line":${line},"column":${column}}`;
}

function uncaughtText(thrown: unknown): string {
  try {
    return `Uncaught outside of any invocation: ${thrown instanceof Error ? thrown.stack : String(thrown)}`;
  } catch {
    return 'Uncaught outside of any invocation: a value that cannot be shown';
  }
}
