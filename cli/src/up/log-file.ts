import {
  closeSync,
  copyFileSync,
  existsSync,
  fstatSync,
  ftruncateSync,
  openSync,
  readSync,
  renameSync,
  statSync,
  writeSync,
} from 'node:fs';

/** When it is passed, the file becomes `<file>.1` and an empty one goes on: at most twice this is kept. */
const BYTES_MAX = 20 * 1024 * 1024;
const CHECK_MS = 30_000;
const TAIL_BYTES = 16 * 1024;

/**
 * Where a child writes. The child holds the file itself and no pipe of ours,
 * so it is never blocked by us and its last words are there after any death.
 */
export class LogFile {
  readonly fd: number;
  readonly #timer: NodeJS.Timeout;

  constructor(readonly path: string) {
    if (existsSync(path) && statSync(path).size > BYTES_MAX) renameSync(path, `${path}.1`);
    this.fd = openSync(path, 'a+', 0o600);
    this.#timer = setInterval(() => this.#boundSize(), CHECK_MS).unref();
  }

  line(text: string): void {
    writeSync(this.fd, `${text}\n`);
  }

  /** How much was written so far; the start of a new process's part. */
  get size(): number {
    return fstatSync(this.fd).size;
  }

  /** The last lines written since `from`. */
  tail(lines: number, from = 0): readonly string[] {
    const { size } = fstatSync(this.fd);
    const start = Math.max(Math.min(from, size), size - TAIL_BYTES);
    const buffer = Buffer.alloc(size - start);
    const read = readSync(this.fd, buffer, 0, buffer.length, start);
    return buffer
      .subarray(0, read)
      .toString()
      .split('\n')
      .filter((line) => line.trim() !== '')
      .slice(-lines);
  }

  close(): void {
    clearInterval(this.#timer);
    closeSync(this.fd);
  }

  /** Copied and cut, not renamed: the child goes on appending to the file that it holds. */
  #boundSize(): void {
    if (fstatSync(this.fd).size <= BYTES_MAX) return;
    copyFileSync(this.path, `${this.path}.1`);
    ftruncateSync(this.fd);
  }
}
