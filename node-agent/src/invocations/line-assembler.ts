const NEWLINE = 0x0a;
const CARRIAGE_RETURN = 0x0d;

/** Cuts raw output into lines. A line without an end is cut at `lineBytesMax`, so that nothing grows. */
export class LineAssembler {
  #pending: Buffer = Buffer.alloc(0);

  constructor(
    private readonly lineBytesMax: number,
    private readonly onLine: (line: Buffer) => void,
  ) {}

  push(bytes: Buffer): void {
    let at = 0;
    for (let end = bytes.indexOf(NEWLINE); end !== -1; end = bytes.indexOf(NEWLINE, at)) {
      this.#append(bytes.subarray(at, end));
      this.flush();
      at = end + 1;
    }
    if (at < bytes.length) this.#append(bytes.subarray(at));
  }

  /** Reports what has no line end yet. */
  flush(): void {
    if (this.#pending.length === 0) return;
    const line = this.#pending;
    this.#pending = Buffer.alloc(0);
    this.onLine(line.at(-1) === CARRIAGE_RETURN ? line.subarray(0, -1) : line);
  }

  #append(bytes: Buffer): void {
    let at = 0;
    while (this.#pending.length + bytes.length - at >= this.lineBytesMax) {
      const taken = this.lineBytesMax - this.#pending.length;
      this.#pending = Buffer.concat([this.#pending, bytes.subarray(at, at + taken)]);
      at += taken;
      this.flush();
    }
    this.#pending = Buffer.concat([this.#pending, bytes.subarray(at)]);
  }
}
