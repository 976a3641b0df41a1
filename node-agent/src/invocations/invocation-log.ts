import { LogStream } from '@lambda-fleet/proto';
import { type LogMessage, storable } from '../channel/runtime-messages.js';
import type { OutputStream } from '../drivers/raw-output.js';
import type { AgentInvocation, InvocationSink } from './invocation.js';
import { LineAssembler } from './line-assembler.js';

const LOG_LINES_MAX = 10_000;
const LOG_BYTES_MAX = 1024 * 1024;
const LINE_BYTES_MAX = 64 * 1024;
const NEWLINE = 0x0a;

const STREAMS = { stdout: LogStream.STDOUT, stderr: LogStream.STDERR } as const;

/**
 * The log lines of one invocation on their way to the sink, numbered and bounded: after 10,000 lines or 1 MB the rest is
 * counted and dropped, and {@link finish} says so in a line of the platform.
 */
export class InvocationLog {
  readonly #raw = { stdout: this.#assembler('stdout'), stderr: this.#assembler('stderr') };
  #sequence = 0;
  #bytes = 0;
  #droppedLines = 0;
  #droppedBytes = 0;

  constructor(
    private readonly invocation: AgentInvocation,
    private readonly sink: InvocationSink,
  ) {}

  /** Takes room for a line, or counts it as dropped. */
  admit(bytes: number): boolean {
    if (this.#sequence < LOG_LINES_MAX && this.#bytes + Math.min(bytes, LINE_BYTES_MAX) <= LOG_BYTES_MAX) return true;
    // Nothing shorter slips through later: what is shown is the beginning, without holes.
    this.#bytes = LOG_BYTES_MAX;
    this.#droppedLines += 1;
    this.#droppedBytes += bytes;
    return false;
  }

  /** An admitted line. */
  line(message: LogMessage, text: Buffer): void {
    this.#emit(STREAMS[message.stream], message.level, message.unixMs, text);
  }

  /** @returns how many lines were kept */
  raw(stream: OutputStream, bytes: Buffer): number {
    const before = this.#sequence;
    if (this.#bytes < LOG_BYTES_MAX) this.#raw[stream].push(bytes);
    else this.#drop(bytes);
    return this.#sequence - before;
  }

  /** To be called before the invocation's end is reported. */
  finish(): void {
    this.#raw.stdout.flush();
    this.#raw.stderr.flush();
    if (this.#droppedBytes === 0) return;
    const text = `${this.#droppedLines} more lines (${this.#droppedBytes} bytes) were dropped: an invocation may log ${LOG_LINES_MAX} lines and ${LOG_BYTES_MAX} bytes.`;
    this.#droppedLines = 0;
    this.#droppedBytes = 0;
    this.#emit(LogStream.PLATFORM, 'WARN', Date.now(), Buffer.from(text));
  }

  /** Counts without cutting: a flood of short lines costs as little as one of long ones. */
  #drop(bytes: Buffer): void {
    this.#droppedBytes += bytes.length;
    for (let at = bytes.indexOf(NEWLINE); at !== -1; at = bytes.indexOf(NEWLINE, at + 1)) this.#droppedLines += 1;
  }

  #assembler(stream: OutputStream): LineAssembler {
    return new LineAssembler(LINE_BYTES_MAX, (line) => {
      if (this.admit(line.length)) this.#emit(STREAMS[stream], '', Date.now(), line);
    });
  }

  #emit(stream: LogStream, level: string, unixMs: number, text: Buffer): void {
    const { invoke, spec } = this.invocation;
    this.#bytes += Math.min(text.length, LINE_BYTES_MAX);
    this.sink.log({
      invocationId: invoke.invocationId,
      functionId: spec.functionId,
      projectId: spec.projectId,
      versionId: spec.versionId,
      epoch: invoke.epoch,
      grant: invoke.grant,
      sequence: this.#sequence++,
      unixMs,
      stream,
      level,
      text: storable(text.toString('utf8', 0, LINE_BYTES_MAX)),
    });
  }
}
