import { type AgentMessage, type Build, type BuildEnd, type BuildLine, BuildOutcome } from '@lambda-fleet/proto';

/** What builds container images on this node. */
export interface LinkBuilder {
  /** Returns at once. The sink is told the end once, after the last line. */
  start(build: Build, sink: { log(lines: BuildLine[]): void; ended(end: BuildEnd): void }): void;
  cancel(buildId: string): void;
  /** Ends this build, if it is the one that is built: nobody waits for it any more. */
  abandon(buildId: string): void;
}

/** Builds that come over one link, and what becomes of them. Without a builder all are refused. */
export class LinkBuilds {
  readonly #given = new Set<string>();

  constructor(
    private readonly builder: LinkBuilder | undefined,
    private readonly send: (message: AgentMessage, bytes: number) => void,
    /** Why no build is taken now; undefined takes them. */
    private readonly refusing: () => string | undefined = () => undefined,
  ) {}

  start(build: Build): void {
    const { buildId } = build;
    const ended = (end: BuildEnd) => {
      this.#given.delete(buildId);
      this.send({ message: { $case: 'buildEnd', value: end } }, sizeOf(end));
    };
    const refusal = this.refusing();
    if (this.builder === undefined || refusal !== undefined) {
      const detail = refusal ?? 'this node does not build';
      ended({ buildId, outcome: BuildOutcome.REFUSED, detail, image: undefined });
      return;
    }
    const log = (lines: BuildLine[]) => {
      const bytes = lines.reduce((sum, { text }) => sum + text.length + 16, 64);
      this.send({ message: { $case: 'buildLog', value: { buildId, lines } } }, bytes);
    };
    this.#given.add(buildId);
    this.builder.start(build, { log, ended });
  }

  get running(): number {
    return this.#given.size;
  }

  /** Whether this link gave it, and it is not over. */
  has(buildId: string): boolean {
    return this.#given.has(buildId);
  }

  cancel(buildId: string): void {
    this.builder?.cancel(buildId);
  }

  /** Nobody waits for them any more. */
  abandon(): void {
    for (const buildId of this.#given) this.builder?.abandon(buildId);
  }
}

function sizeOf({ detail, image }: BuildEnd): number {
  return (
    256 +
    detail.length +
    (image === undefined ? 0 : 128 * image.layers.length + JSON.stringify(image.environment).length)
  );
}
