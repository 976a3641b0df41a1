import { AsyncLocalStorage } from 'node:async_hooks';
import { StringDecoder } from 'node:string_decoder';
import type { Channel } from './channel.js';
import { nextTick, quote } from './intrinsics.js';
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
  /** What a line is tagged with that comes from outside of any invocation's context. */
  #runningId = 'null';

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

  /** Tags what `run` and all it starts print with `id`. */
  during<Result>(id: string, run: () => Result): Result {
    this.#runningId = quote(id);
    return this.#runInContext(this.#runningId, run);
  }

  /** Sends unfinished lines: the invocation's result comes next. */
  flush(): void {
    for (const stream of this.#streams) {
      stream.flush();
    }
  }

  /** No invocation is running any more. */
  end(): void {
    this.flush();
    this.#runningId = 'null';
  }

  /** A line of the runtime itself. */
  report(level: Level, text: string): void {
    for (const line of text.split('\n')) {
      this.channel.log(this.#runningId, 'stderr', level, line);
    }
  }

  #capture(stream: NodeJS.WriteStream, name: 'stdout' | 'stderr'): void {
    const captured = new CapturedStream((id, line) => this.channel.log(id, name, this.#level, line));
    this.#streams.push(captured);
    stream.write = (chunk: unknown, encodingOrDone?: unknown, done?: unknown): boolean => {
      const encoding = typeof encodingOrDone === 'string' ? (encodingOrDone as BufferEncoding) : 'utf8';
      captured.write(this.#idOfContext() ?? this.#runningId, chunk, encoding);
      const callback = typeof encodingOrDone === 'function' ? encodingOrDone : done;
      // The console's own callback waits for an error that never comes; a loop of a million lines would queue a million.
      if (typeof callback === 'function' && this.#level === '') {
        nextTick(callback as () => void);
      }
      return true;
    };
  }
}

/** Cuts one stream into lines. An unfinished line waits for its end, for another invocation's text or for `flush`. */
class CapturedStream {
  #decoder = new StringDecoder('utf8');
  #unfinished = '';
  #id = 'null';

  constructor(private readonly onLine: (id: string, line: string) => void) {}

  write(id: string, chunk: unknown, encoding: BufferEncoding): void {
    if (id !== this.#id) {
      this.flush();
      this.#id = id;
    }
    const text = this.#decode(chunk, encoding);
    let start = 0;
    for (let end = text.indexOf('\n'); end !== -1; end = text.indexOf('\n', start)) {
      this.#emit(this.#unfinished + text.slice(start, end));
      this.#unfinished = '';
      start = end + 1;
    }
    this.#unfinished += text.slice(start);
    if (this.#unfinished.length > LINE_BYTES_MAX) {
      this.flush();
    }
  }

  flush(): void {
    if (this.#unfinished !== '') {
      this.#emit(this.#unfinished);
      this.#unfinished = '';
    }
  }

  #decode(chunk: unknown, encoding: BufferEncoding): string {
    if (typeof chunk === 'string') {
      return encoding === 'utf8' ? chunk : this.#decoder.write(Buffer.from(chunk, encoding));
    }
    if (chunk instanceof Uint8Array) {
      return this.#decoder.write(Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength));
    }
    throw new TypeError('The "chunk" argument must be of type string or an instance of Buffer or Uint8Array.');
  }

  #emit(line: string): void {
    if (line.length * 3 <= LINE_BYTES_MAX) {
      this.onLine(this.#id, line);
    } else {
      eachPiece(line, LINE_BYTES_MAX, (piece) => this.onLine(this.#id, piece));
    }
  }
}
