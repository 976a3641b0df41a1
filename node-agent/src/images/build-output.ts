import { type BuildLine, LogStream } from '@lambda-fleet/proto';

/** What is sent of a build's output before the middle of it is left out. */
const LINES_MAX = 10_000;
const CHARS_MAX = 1024 * 1024;
const LINE_CHARS_MAX = 8 * 1024;
/** The end of a long output is where it says what went wrong. */
const TAIL_LINES = 100;
const TAIL_CHARS_MAX = 64 * 1024;
const SEND_AFTER_MS = 100;
const SEND_LINES = 200;

/** How the classic builder marks what a step writes to its standard error. */
const RED = '\u001b[91m';
const RESET = '\u001b[0m';

/**
 * The output of one build: cut into lines, bounded, sent a few lines at a time. Of what is over the bounds the last
 * {@link TAIL_LINES} lines are kept and come at the end.
 */
export class BuildOutput {
  readonly #rest: { text: string; stream: LogStream } = { text: '', stream: LogStream.STDOUT };
  #batch: BuildLine[] = [];
  #lines = 0;
  #chars = 0;
  #tail: BuildLine[] = [];
  #tailChars = 0;
  #dropped = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(private readonly send: (lines: BuildLine[]) => void) {}

  /** A piece of what the builder writes; lines may come in several. */
  push(piece: string): void {
    const stream = piece.startsWith(RED) ? LogStream.STDERR : LogStream.STDOUT;
    if (stream !== this.#rest.stream) this.#endLine();
    this.#rest.stream = stream;
    const lines = (this.#rest.text + piece.replaceAll(RED, '').replaceAll(RESET, '')).split('\n');
    this.#rest.text = lines.pop() ?? '';
    for (const line of lines) this.#add(stream, line);
    while (this.#rest.text.length > LINE_CHARS_MAX) {
      this.#add(stream, this.#rest.text.slice(0, LINE_CHARS_MAX));
      this.#rest.text = this.#rest.text.slice(LINE_CHARS_MAX);
    }
  }

  /** A line of the platform itself. */
  platform(text: string): void {
    this.#endLine();
    this.#queue(line(LogStream.PLATFORM, text));
  }

  /** Sends what is left. To be called once. */
  finish(): void {
    this.#endLine();
    if (this.#dropped > this.#tail.length) {
      this.#queue(line(LogStream.PLATFORM, `[... ${this.#dropped - this.#tail.length} lines left out]`));
    }
    for (const kept of this.#tail) this.#queue(kept);
    this.#tail = [];
    this.#flush();
  }

  #endLine(): void {
    const { text, stream } = this.#rest;
    this.#rest.text = '';
    if (text !== '') this.#add(stream, text);
  }

  #add(stream: LogStream, text: string): void {
    const added = line(stream, text.endsWith('\r') ? text.slice(0, -1) : text);
    if (this.#dropped === 0 && this.#lines < LINES_MAX && this.#chars + added.text.length <= CHARS_MAX) {
      this.#lines += 1;
      this.#chars += added.text.length;
      this.#queue(added);
      return;
    }
    this.#dropped += 1;
    this.#tail.push(added);
    this.#tailChars += added.text.length;
    while (this.#tail.length > TAIL_LINES || this.#tailChars > TAIL_CHARS_MAX) {
      this.#tailChars -= this.#tail.shift()?.text.length ?? 0;
    }
  }

  #queue(added: BuildLine): void {
    this.#batch.push(added);
    if (this.#batch.length >= SEND_LINES) this.#flush();
    else this.#timer ??= setTimeout(() => this.#flush(), SEND_AFTER_MS);
  }

  #flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#batch.length > 0) this.send(this.#batch);
    this.#batch = [];
  }
}

function line(stream: LogStream, text: string): BuildLine {
  return { unixMs: Date.now(), stream, text: text.slice(0, LINE_CHARS_MAX).toWellFormed() };
}
