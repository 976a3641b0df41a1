import { SANDBOX_USER_FIRST, SANDBOX_USERS } from '@lambda-fleet/common/sandbox-users';

/**
 * Gives each sandbox a user of its own. The kernel counts some things for a user and not for a container: 128 inotify instances, the
 * memory of pipes, pending signals, descriptors on their way. With one user for all, one function under runc could
 * take everybody's, and those of whatever else runs as that user.
 */
export class SandboxUsers {
  readonly #taken = new Set<number>();
  #next: number;

  /** @param owner see `ownerOf`: agents on one machine begin in different places. */
  constructor(owner: string) {
    this.#next = Number.parseInt(owner.slice(0, 8), 16) % SANDBOX_USERS;
  }

  /** One that no sandbox of this agent has, least recently used first. When all are taken they are shared. */
  take(): number {
    let user = this.#step();
    for (let tries = 1; tries < SANDBOX_USERS && this.#taken.has(user); tries += 1) user = this.#step();
    this.#taken.add(user);
    return user;
  }

  giveBack(user: number): void {
    this.#taken.delete(user);
  }

  #step(): number {
    this.#next = (this.#next + 1) % SANDBOX_USERS;
    return SANDBOX_USER_FIRST + this.#next;
  }
}
