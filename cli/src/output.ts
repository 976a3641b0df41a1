import picocolors from 'picocolors';
import { CliError } from './cli-error.js';

type Colors = ReturnType<typeof picocolors.createColors>;

/**
 * The only place that writes to the terminal: data to standard output,
 * everything else to standard error.
 *
 * A step in progress keeps its line open (`[2/3] Uploading …`) until `done`
 * completes it; a note that comes in between starts on a line of its own.
 */
export class Output {
  readonly colors: Colors;
  #lineOpen = false;

  constructor(
    private readonly stdout: NodeJS.WriteStream,
    private readonly stderr: NodeJS.WriteStream,
    noColor: boolean,
  ) {
    this.colors = picocolors.createColors(!noColor && stderr.isTTY === true);
    // A reader that went away (`lambda ls | head -1`) and a closed terminal are no failures of the
    // command; without a listener they would end the process, and `lambda up` with its children alive.
    for (const stream of [stdout, stderr]) stream.on('error', () => {});
  }

  get dataIsTerminal(): boolean {
    return this.stdout.isTTY === true;
  }

  /**
   * Writes data as it is; resolves when the stream has taken it, or its reader went away.
   *
   * @throws CliError when it cannot be written: a script must not take half a result for a whole one
   */
  data(chunk: string | Uint8Array): Promise<void> {
    return new Promise((resolve, reject) => {
      this.stdout.write(chunk, (err) => {
        const { code } = (err ?? {}) as NodeJS.ErrnoException;
        if (err === null || err === undefined || code === 'EPIPE') resolve();
        else reject(new CliError(`The output could not be written (${code ?? err.message}).`));
      });
    });
  }

  note(text: string): void {
    this.#closeLine();
    this.stderr.write(`${text}\n`);
  }

  warn(text: string): void {
    this.note(`${this.colors.yellow('warning:')} ${text}`);
  }

  error(text: string, next?: string): void {
    this.note(`${this.colors.red('error:')} ${text}`);
    if (next !== undefined) this.note(`  ${this.colors.dim('→')} ${next}`);
  }

  /** Opens a step's line. The returned function completes it, with what came of it. */
  step(text: string): (result?: string) => void {
    this.#closeLine();
    this.stderr.write(`${text} …`);
    this.#lineOpen = true;
    return (result = '') => {
      if (this.#lineOpen) {
        this.#lineOpen = false;
        this.stderr.write(result === '' ? '\n' : ` ${result}\n`);
      } else if (result !== '') {
        this.note(`${text}: ${result}`);
      }
    };
  }

  #closeLine(): void {
    if (!this.#lineOpen) return;
    this.#lineOpen = false;
    this.stderr.write('\n');
  }
}
