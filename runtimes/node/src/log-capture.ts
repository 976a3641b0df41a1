import { AsyncLocalStorage } from 'node:async_hooks';
import { StringDecoder } from 'node:string_decoder';
import type { Channel } from './channel.js';
import { nextTick } from './intrinsics.js';
import { eachPiece } from './text.js';

/** Longer lines are sent in pieces. */
const LINE_BYTES_MAX = 64 * 1024;

type Level = 'DEBUG' | 'INFO' | 'WARN' | 'ERROR' | '';

const CONSOLE_LEVELS = {
  debug: 'DEBUG',
  log: 'INFO',
  info: 'INFO',
  warn: 'WARN',
  error: 'ERROR',
} as const satisfies Record<string, Level>;

/**
 * Turns what user code prints into log lines, each tagged with the invocation whose
 * asynchronous context wrote it.
 *
 * The process's streams are captured at `write`, below `console`, which therefore
 * keeps its formatting, groups and tables; the console's methods only note the level
 * while they run.
 */
export class LogCapture {
  /** The invocation's id as JSON text. */
  readonly #context = new AsyncLocalStorage<string>();
  readonly #idOfContext = this.#context.getStore.bind(this.#context);
  readonly #runInContext: <Result>(id: string, run: () => Result) => Result = this.#context.run.bind(this.#context);
  readonly #streams: CapturedStream[] = [];
  #level: Level = '';
  readonly #running = new Set<string>();
  /** What a line is tagged with that comes from outside of any invocation's context: the only one that runs. */
  #strayId = 'null';

  constructor(private readonly channel: Channel) {}

  /** Call once, before user code loads. */
  install(): void {
    this.#capture(process.stdout, 'stdout');
    this.#capture(process.stderr, 'stderr');
    for (const [name, level] of Object.entries(CONSOLE_LEVELS) as [keyof typeof CONSOLE_LEVELS, Level][]) {
      // biome-ignore lint/suspicious/noConsole: the console of user code is what this captures
      const print = console[name];
      console[name] = (...args: unknown[]) => {
        const before = this.#level;
        this.#level = level;
        try {
          print(...args);
        } finally {
          this.#level = before;
        }
      };
    }
  }

  /** Tags what `run` and all it starts print with `id`, which is JSON text. */
  during<Result>(id: string, run: () => Result): Result {
    this.#running.add(id);
    this.#findStrayId();
    return this.#runInContext(id, run);
  }

  /** Sends every unfinished line. */
  flush(): void {
    for (const stream of this.#streams) {
      stream.flush();
    }
  }

  /** Sends the unfinished lines of an invocation, whose result comes next, and of all that do not run. */
  end(id: string): void {
    this.#running.delete(id);
    this.#findStrayId();
    for (const stream of this.#streams) {
      stream.flushExcept(this.#running);
    }
  }

  /** What a job's realm prints: whole lines, of the invocation whose id is the JSON text `id`. */
  print(id: string, level: Level, text: string): void {
    const stream = level === 'WARN' || level === 'ERROR' ? 'stderr' : 'stdout';
    for (const line of text.split('\n')) {
      eachLinePiece(line, (piece) => this.channel.log(id, stream, level, piece));
    }
  }

  /** A line of the runtime itself, while no invocation runs. */
  report(level: Level, text: string): void {
    for (const line of text.split('\n')) {
      this.channel.log('null', 'stderr', level, line);
    }
  }

  #findStrayId(): void {
    this.#strayId = 'null';
    if (this.#running.size === 1) {
      for (const id of this.#running) {
        this.#strayId = id;
      }
    }
  }

  #capture(stream: NodeJS.WriteStream, name: 'stdout' | 'stderr'): void {
    const captured = new CapturedStream((id, line) => this.channel.log(id, name, this.#level, line));
    this.#streams.push(captured);
    stream.write = (chunk: unknown, encodingOrDone?: unknown, done?: unknown): boolean => {
      const encoding = typeof encodingOrDone === 'string' ? (encodingOrDone as BufferEncoding) : 'utf8';
      captured.write(this.#idOfContext() ?? this.#strayId, chunk, encoding);
      const callback = typeof encodingOrDone === 'function' ? encodingOrDone : done;
      // The console's own callback waits for an error that never comes; a loop of a million lines would queue a million.
      if (typeof callback === 'function' && this.#level === '') {
        nextTick(callback as () => void);
      }
      return true;
    };
  }
}

interface Unfinished {
  text: string;
  /** Made for the first bytes: most code prints text. */
  decoder: StringDecoder | undefined;
}

/** Cuts one stream into lines, each invocation's output apart. An unfinished line waits for its end, or for a flush. */
class CapturedStream {
  readonly #unfinished = new Map<string, Unfinished>();

  constructor(private readonly onLine: (id: string, line: string) => void) {}

  write(id: string, chunk: unknown, encoding: BufferEncoding): void {
    let unfinished = this.#unfinished.get(id);
    if (unfinished === undefined) {
      unfinished = { text: '', decoder: undefined };
      this.#unfinished.set(id, unfinished);
    }
    const text = decode(unfinished, chunk, encoding);
    let start = 0;
    for (let end = text.indexOf('\n'); end !== -1; end = text.indexOf('\n', start)) {
      this.#emit(id, unfinished.text + text.slice(start, end));
      unfinished.text = '';
      start = end + 1;
    }
    unfinished.text += text.slice(start);
    if (unfinished.text.length > LINE_BYTES_MAX) {
      this.#finish(id, unfinished);
    }
  }

  flush(): void {
    for (const [id, unfinished] of this.#unfinished) {
      this.#finish(id, unfinished);
    }
  }

  /** Sends the unfinished lines of all that are not in `running`, and forgets these. */
  flushExcept(running: ReadonlySet<string>): void {
    for (const [id, unfinished] of this.#unfinished) {
      if (!running.has(id)) {
        this.#finish(id, unfinished);
        this.#unfinished.delete(id);
      }
    }
  }

  #finish(id: string, unfinished: Unfinished): void {
    if (unfinished.text !== '') {
      this.#emit(id, unfinished.text);
      unfinished.text = '';
    }
  }

  #emit(id: string, line: string): void {
    eachLinePiece(line, (piece) => this.onLine(id, piece));
  }
}

function eachLinePiece(line: string, onPiece: (piece: string) => void): void {
  if (line.length * 3 <= LINE_BYTES_MAX) {
    onPiece(line);
  } else {
    eachPiece(line, LINE_BYTES_MAX, onPiece);
  }
}

function decode(unfinished: Unfinished, chunk: unknown, encoding: BufferEncoding): string {
  if (typeof chunk === 'string' && encoding === 'utf8') {
    return chunk;
  }
  unfinished.decoder ??= new StringDecoder('utf8');
  if (typeof chunk === 'string') {
    return unfinished.decoder.write(Buffer.from(chunk, encoding));
  }
  if (chunk instanceof Uint8Array) {
    return unfinished.decoder.write(Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength));
  }
  throw new TypeError('The "chunk" argument must be of type string or an instance of Buffer or Uint8Array.');
}
