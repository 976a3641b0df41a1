export type OutputStream = 'stdout' | 'stderr';
export type OutputListener = (stream: OutputStream, bytes: Buffer) => void;

/** Hands a sandbox's raw output to its one listener; what comes before there is one is dropped. */
export class OutputTap {
  #listener: OutputListener = () => {};

  listen(listener: OutputListener): void {
    this.#listener = listener;
  }

  push(stream: OutputStream, bytes: Buffer): void {
    this.#listener(stream, bytes);
  }
}
