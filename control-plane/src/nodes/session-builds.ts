import type { Build, BuildEnd, BuildLine, BuildLog, ControlMessage } from '@lambda-fleet/proto';

/** Who gave a build to a node. It is told the end exactly once, `lost` when the session ends first. */
export interface BuildSink {
  log(lines: readonly BuildLine[]): void;
  ended(end: BuildEnd): void;
  lost(reason: string): void;
}

/** A build that a session was given and has not answered yet. */
export interface GivenBuild {
  readonly build: Build;
  readonly projectId: string;
  readonly sink: BuildSink;
  /** Of the layers that it has sent so far. */
  sentBytes: number;
}

/**
 * The builds of one session: what its agent may fetch and send for them, and who hears of them. An agent that speaks of a
 * build that it was not given is not listened to.
 */
export class SessionBuilds {
  readonly #given = new Map<string, GivenBuild>();

  constructor(private readonly send: (message: ControlMessage, bytes: number) => void) {}

  get size(): number {
    return this.#given.size;
  }

  get(buildId: string): GivenBuild | undefined {
    return this.#given.get(buildId);
  }

  /** The project of a build context that the agent may fetch now. */
  projectOfContext(sha256: string): string | undefined {
    for (const { build, projectId } of this.#given.values()) if (build.contextSha256 === sha256) return projectId;
    return undefined;
  }

  give(build: Build, projectId: string, sink: BuildSink): void {
    this.#given.set(build.buildId, { build, projectId, sink, sentBytes: 0 });
    this.send({ message: { $case: 'build', value: build } }, 256);
  }

  /** Asks the agent to end it; its end still comes. */
  cancel(buildId: string): void {
    if (!this.#given.has(buildId)) return;
    this.send({ message: { $case: 'cancelBuild', value: { buildId } } }, 64);
  }

  receiveLog({ buildId, lines }: BuildLog): void {
    this.#given.get(buildId)?.sink.log(lines);
  }

  receiveEnd(end: BuildEnd): void {
    const given = this.#given.get(end.buildId);
    if (given === undefined) return;
    this.#given.delete(end.buildId);
    given.sink.ended(end);
  }

  close(): void {
    const given = [...this.#given.values()];
    this.#given.clear();
    for (const { sink } of given) sink.lost('the connection to the node broke while it built');
  }
}
