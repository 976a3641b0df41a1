import { reportedError } from './json-lines.js';

type Message = Readonly<Record<string, unknown>>;

/** A Dockerfile that could not be built, in the builder's own words. */
export class BuildFailed extends Error {
  override readonly name = 'BuildFailed';
}

const STAGE = /^Step \d+\/\d+ : FROM /i;
const IMAGE = /^ ---> ([0-9a-f]{12})\n?$/;
/** A Dockerfile of this many stages would be remarkable. */
const STAGES_MAX = 32;

/**
 * What the classic builder says, message by message: text for people, and on the side which images it made. The steps of a
 * Dockerfile may write the same words, so these images are only what it *says* it made.
 */
export class BuilderMessages {
  /** The image that was built; empty before it is. */
  imageId = '';
  /** Short id of the newest image of each stage. */
  readonly stages: string[] = [];

  constructor(
    private readonly write: (text: string) => void,
    /** The newest image of some stage is another one now. */
    private readonly onMade: () => void,
  ) {}

  /** @throws BuildFailed */
  take(message: Message): void {
    const error = reportedError(message);
    if (error !== undefined) throw new BuildFailed(error.slice(0, 2_000));
    const { stream, status, id, aux, progressDetail } = message;
    if (typeof stream === 'string') this.#stream(stream);
    else if (typeof aux === 'object' && aux !== null && 'ID' in aux) this.imageId = String(aux.ID);
    // A base image that is being pulled; its progress comes many times a second.
    else if (typeof status === 'string' && !hasProgress(progressDetail)) {
      this.write(typeof id === 'string' ? `${id}: ${status}\n` : `${status}\n`);
    }
  }

  #stream(text: string): void {
    this.write(text);
    if (STAGE.test(text) && this.stages.length < STAGES_MAX) this.stages.push('');
    const made = IMAGE.exec(text)?.[1];
    if (made === undefined || this.stages.length === 0) return;
    this.stages[this.stages.length - 1] = made;
    this.onMade();
  }
}

function hasProgress(detail: unknown): boolean {
  return typeof detail === 'object' && detail !== null && 'current' in detail;
}
