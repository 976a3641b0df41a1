import { ProtocolViolation } from './protocol-violation.js';
import type { Meta } from './runtime-messages.js';

/** A file of a code cache. */
export interface CompiledFile {
  /** Relative, of plain names separated by `/`. */
  readonly path: string;
  readonly bytes: Buffer;
}

const FILES_MAX = 8_192;
const BYTES_MAX = 64 * 1024 * 1024;
const PATH_CHARS_MAX = 512;
/** What a module's file may be called, and neither `.` nor `..`. */
const NAME = /^(?!\.{1,2}$)[\w.+@~ -]{1,255}$/;

/** Collects what COMPILED frames bring. They come from a program that has read hostile code. */
export class CompiledFiles {
  /** Resolves with the last of them. */
  readonly all: Promise<readonly CompiledFile[]>;
  reject: (reason: Error) => void = () => {};
  #resolve: (files: readonly CompiledFile[]) => void = () => {};
  readonly #files = new Map<string, CompiledFile>();
  #bytes = 0;

  constructor() {
    this.all = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.reject = reject;
    });
  }

  /** True when it was the last frame. Throws {@link ProtocolViolation}. */
  receive({ done, path }: Meta, bytes: Buffer): boolean {
    if (done === true) {
      this.#resolve([...this.#files.values()]);
      return true;
    }
    if (typeof path !== 'string' || path.length > PATH_CHARS_MAX || !path.split('/').every((name) => NAME.test(name))) {
      throw new ProtocolViolation('COMPILED has a malformed path');
    }
    if (this.#files.has(path)) throw new ProtocolViolation('COMPILED came twice for a path');
    this.#bytes += bytes.length;
    if (this.#files.size >= FILES_MAX || this.#bytes > BYTES_MAX) {
      throw new ProtocolViolation(`more than ${FILES_MAX} files or ${BYTES_MAX} bytes were compiled`);
    }
    this.#files.set(path, { path, bytes });
    return false;
  }
}
