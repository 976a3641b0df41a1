import { RestartPolicy } from './restart-policy.js';
import { type ChildEvents, type ChildProgram, type Exit, SupervisedChild } from './supervised-child.js';

export interface Failure {
  readonly name: string;
  readonly exit: Exit;
}

export interface SupervisorOptions {
  readonly died: ChildEvents['died'];
  readonly recovered: ChildEvents['recovered'];
  /** Deaths of one child within a minute that end the whole. */
  readonly deathsMax: number;
}

/** Until everything has to be gone, counted from the first request to stop. Shared by all groups. */
const STOP_DEADLINE_MS = 10_000;
/** Kept back for each group that stops later, so that a hanging agent does not take PostgreSQL's clean shutdown. */
const RESERVED_PER_GROUP_MS = 2_000;

/**
 * Starts groups of children one after the other and stops them in reverse:
 * agents first, because they need the control plane to hand over results, and
 * PostgreSQL last.
 */
export class Supervisor {
  readonly #groups: SupervisedChild[][] = [];
  #stopping: Promise<void> | undefined;
  #settleFailed: ((failure: Failure) => void) | undefined;
  /** Settles when a child died too often. Everything else still runs and is to be stopped. */
  readonly failed: Promise<Failure>;

  constructor(private readonly options: SupervisorOptions) {
    this.failed = new Promise((settle) => {
      this.#settleFailed = settle;
    });
  }

  /** Starts a group and waits until all of it serves. Rejects when one fails, is late, or when stopping begins. */
  async start(programs: readonly ChildProgram[], deadlineMs: number): Promise<void> {
    if (this.#stopping !== undefined) throw new Error('The fleet is being stopped.');
    const events: ChildEvents = {
      ...this.options,
      failed: (name, exit) => this.#settleFailed?.({ name, exit }),
    };
    const group = programs.map(
      (program) => new SupervisedChild(program, events, new RestartPolicy(this.options.deathsMax)),
    );
    this.#groups.push(group);
    await Promise.all(group.map((child) => child.start(deadlineMs)));
  }

  /** Ends every child, in reverse order. Resolves when no process is left; never rejects. */
  stop(): Promise<void> {
    this.#stopping ??= this.#stopGroups();
    return this.#stopping;
  }

  /** Ends every child at once, without asking. */
  killAll(): void {
    for (const child of this.#groups.flat()) child.kill();
  }

  async #stopGroups(): Promise<void> {
    const until = performance.now() + STOP_DEADLINE_MS;
    let later = this.#groups.length;
    for (const group of [...this.#groups].reverse()) {
      later -= 1;
      const deadlineMs = Math.max(RESERVED_PER_GROUP_MS, until - performance.now() - later * RESERVED_PER_GROUP_MS);
      await Promise.all(group.map((child) => child.stop(deadlineMs)));
    }
  }
}
