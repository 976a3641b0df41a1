const NEWLINE = 0x0a;
const CARRIAGE_RETURN = 0x0d;
const NOTHING = Buffer.alloc(0);

/** Cuts raw output into lines. A line without an end is cut at `lineBytesMax`, so that nothing grows. */
export class LineAssembler {
  #pending: Buffer = NOTHING;

  constructor(
    private readonly lineBytesMax: number,
    private readonly onLine: (line: Buffer) => void,
  ) {}

  push(bytes: Buffer): void {
    let at = 0;
    for (let end = bytes.indexOf(NEWLINE); end !== -1; end = bytes.indexOf(NEWLINE, at)) {
      // Whole, as nearly every line is, it is not copied.
      if (this.#pending.length === 0 && end - at < this.lineBytesMax) this.#report(bytes.subarray(at, end));
      else {
        this.#append(bytes.subarray(at, end));
        this.flush();
      }
      at = end + 1;
    }
    if (at < bytes.length) this.#append(bytes.subarray(at));
  }

  /** Reports what has no line end yet. */
  flush(): void {
    const line = this.#pending;
    this.#pending = NOTHING;
    this.#report(line);
  }

  #report(line: Buffer): void {
    if (line.length > 0) this.onLine(line.at(-1) === CARRIAGE_RETURN ? line.subarray(0, -1) : line);
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
