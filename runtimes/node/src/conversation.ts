import { setImmediate as nextTurn } from 'node:timers/promises';
import { callHandler } from './call-handler.js';
import type { Channel } from './channel.js';
import { createContext } from './context.js';
import { setEnvironment, setTraceId } from './environment.js';
import { encodeFrame, type Frame, FrameType, ProtocolViolation } from './frames.js';
import { errorMembers, Fault } from './function-error.js';
import { httpResponse } from './http-response.js';
import { exit, isUtf8, parseJson, quote, textOf } from './intrinsics.js';
import { explainLoadError, type Handler, loadHandler } from './load-handler.js';
import type { LogCapture } from './log-capture.js';
import { type InitMessage, type InvokeMessage, readInit, readInvoke } from './messages.js';
import { checkSize, marshal } from './result.js';

/** Exit statuses after an uncaught exception: while an invocation ran, and otherwise. */
const EXIT_BUSY = 129;
const EXIT_NOT_BUSY = 128;

type State =
  | { readonly name: 'blank' }
  | { readonly name: 'initialising'; readonly init: InitMessage }
  | { readonly name: 'idle'; readonly init: InitMessage; readonly handler: Handler }
  | { readonly name: 'busy'; readonly init: InitMessage; readonly handler: Handler; readonly id: string }
  | { readonly name: 'failed' };

type StateName = State['name'];

const NEXT: Readonly<Record<StateName, readonly StateName[]>> = {
  blank: ['initialising'],
  initialising: ['idle', 'failed'],
  idle: ['busy'],
  busy: ['idle'],
  failed: [],
};

export interface Watch {
  /** Calls `dry` once nothing but the channel keeps the process alive; returns how to stop watching. */
  whenNothingIsLeft(dry: () => void): () => void;
}

/**
 * The runtime's side of the channel after HELLO.
 *
 * - `blank`: no code yet; INIT → initialising.
 * - `initialising`: user code loads; READY → idle, INIT_ERROR → failed.
 * - `idle`: INVOKE → busy.
 * - `busy`: the handler runs; RESPONSE or ERROR → idle.
 * - `failed`: INIT_ERROR is sent; only the agent ends this.
 *
 * PING is answered in every state. Any other frame in another state is a violation.
 */
export class Conversation {
  #state: State = { name: 'blank' };

  constructor(
    private readonly channel: Channel,
    private readonly logs: LogCapture,
    private readonly taskRoot: string,
    private readonly watch: Watch,
  ) {}

  /** @throws ProtocolViolation */
  onFrame(frame: Frame): void {
    const state = this.#state;
    if (frame.type === FrameType.PING) {
      this.channel.send(encodeFrame(FrameType.PONG, '{}'));
    } else if (frame.type === FrameType.INVOKE && state.name === 'idle') {
      const invoke = readInvoke(frame);
      this.#enter({ ...state, name: 'busy', id: invoke.id });
      void this.logs.during(invoke.id, () => this.#invoke(state.init, state.handler, invoke, frame.body));
    } else if (frame.type === FrameType.INIT && state.name === 'blank') {
      const init = readInit(frame);
      this.#enter({ name: 'initialising', init });
      void this.#initialise(init);
    } else {
      throw new ProtocolViolation(`frame 0x${frame.type.toString(16)} while ${state.name}`);
    }
  }

  /** An exception that no code caught, or a rejection that none handled. The process's state is unknown: it ends. */
  onUncaught(thrown: unknown): void {
    const state = this.#state;
    switch (state.name) {
      case 'failed':
        // The agent has the reason already.
        return;
      case 'busy':
        this.logs.flush();
        this.channel.sendLast(
          encodeFrame(FrameType.ERROR, `{"id":${quote(state.id)},"exiting":true,${errorMembers(thrown)}}`),
        );
        exit(EXIT_BUSY);
        break;
      case 'initialising':
        void this.#failInit(state.init, thrown);
        break;
      default:
        this.logs.report('ERROR', uncaughtText(thrown));
        exit(EXIT_NOT_BUSY);
    }
  }

  #enter(next: State): void {
    if (!NEXT[this.#state.name].includes(next.name)) {
      throw new Error(`a runtime cannot go from ${this.#state.name} to ${next.name}`);
    }
    this.#state = next;
  }

  async #initialise(init: InitMessage): Promise<void> {
    setEnvironment(init, this.taskRoot);
    try {
      const handler = await loadHandler(init.handler, this.taskRoot);
      // A rejection that nobody handles is reported after this turn, and is still the fault of loading.
      await nextTurn();
      if (this.#state.name === 'initialising') {
        this.logs.flush();
        this.#enter({ name: 'idle', init, handler });
        this.channel.send(encodeFrame(FrameType.READY, '{}'));
      }
    } catch (thrown) {
      await this.#failInit(init, thrown);
    }
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

  /** Runs in the invocation's own asynchronous context. */
  async #invoke(init: InitMessage, handler: Handler, invoke: InvokeMessage, body: Buffer): Promise<void> {
    const id = quote(invoke.id);
    let result: Buffer;
    try {
      setTraceId(invoke.traceId);
      const event = readEvent(body);
      const context = createContext(init, invoke);
      const value = await callHandler(handler, event, context, this.watch.whenNothingIsLeft);
      result = invoke.http ? httpFrame(id, value) : valueFrame(id, value);
    } catch (thrown) {
      result = encodeFrame(FrameType.ERROR, `{"id":${id},${errorMembers(thrown)}}`);
    }
    this.logs.end();
    this.#enter({ name: 'idle', init, handler });
    this.channel.send(result);
  }
}

function readEvent(body: Buffer): unknown {
  if (body.length === 0) {
    return {};
  }
  if (!isUtf8(body)) {
    throw new Fault('Runtime.InvalidEvent', 'The event is not JSON: its bytes are not UTF-8.');
  }
  try {
    return parseJson(textOf(body, 'utf8'));
  } catch (thrown) {
    throw new Fault('Runtime.InvalidEvent', `The event is not JSON: ${(thrown as Error).message}`);
  }
}

function valueFrame(id: string, value: unknown): Buffer {
  const json = marshal(value);
  checkSize(json, 'utf8');
  return encodeFrame(FrameType.RESPONSE, `{"id":${id}}`, json);
}

function httpFrame(id: string, value: unknown): Buffer {
  const { head, body, encoding } = httpResponse(value);
  checkSize(body, encoding);
  return encodeFrame(FrameType.RESPONSE, `{"id":${id},"http":${head}}`, body, encoding);
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
