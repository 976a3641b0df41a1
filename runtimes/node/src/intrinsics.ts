/**
 * What the runtime needs of the language, taken before user code runs. User code
 * may replace globals and prototype methods (polyfills, mocks, tracers); what was
 * taken here keeps working.
 *
 * It imports only Node's own modules, and all of it is evaluated before INIT.
 */
import { isUtf8 as isUtf8Bytes } from 'node:buffer';
import { writeSync } from 'node:fs';

/** `method` as a function whose first argument is the receiver. */
function unbound<This, Args extends unknown[], Result>(
  method: (this: This, ...args: Args) => Result,
): (receiver: This, ...args: Args) => Result {
  return Function.prototype.call.bind(method);
}

export const parseJson: (text: string) => unknown = JSON.parse;
export const toJson: (value: unknown) => string | undefined = JSON.stringify;
/** JSON of a string; never affected by a polluted `toJSON`, because strings are not asked for one. */
export const quote: (text: string) => string = JSON.stringify;

/** Epoch milliseconds. */
export const now = Date.now;
/** Milliseconds of a clock that nobody sets. */
export const monotonicNow: () => number = performance.now.bind(performance);
export const NativePromise = Promise;
export const nextTick = process.nextTick.bind(process);

export const allocate = Buffer.allocUnsafe;
export const byteLength = Buffer.byteLength;
export const bytesOf: (text: string) => Buffer = Buffer.from;
export const writeText = unbound(
  Buffer.prototype.write as (this: Buffer, text: string, offset: number, encoding: BufferEncoding) => number,
);
export const textOf = unbound(
  Buffer.prototype.toString as (this: Buffer, encoding: BufferEncoding, start?: number, end?: number) => string,
);
export const slice = unbound(Buffer.prototype.subarray as (this: Buffer, start: number, end?: number) => Buffer);
export const readU32 = unbound(Buffer.prototype.readUInt32BE as (this: Buffer, at: number) => number);
export const writeU32 = unbound(Buffer.prototype.writeUInt32BE as (this: Buffer, value: number, at: number) => number);
export const copyBytes = unbound(
  Buffer.prototype.copy as (this: Buffer, target: Uint8Array, at: number, start?: number, end?: number) => number,
);

export const writeFd: (fd: number, bytes: Buffer, offset: number, length: number) => number = writeSync;

export const isUtf8: (bytes: Buffer) => boolean = isUtf8Bytes;

const exitProcess = process.exit.bind(process);

export function exit(status: number): never {
  return exitProcess(status);
}

const sleepCell = new Int32Array(new SharedArrayBuffer(4));
const waitAtomically = Atomics.wait;

/** Blocks the whole process, event loop included. */
export function sleepBlocking(ms: number): void {
  waitAtomically(sleepCell, 0, 0, ms);
}
