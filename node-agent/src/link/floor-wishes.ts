import type { WarmFloor } from '@lambda-fleet/proto';

/** How long the wish of a replica counts after its link broke: until then it is likely to come back and say the same. */
const AFTER_LOSS_MS = 60_000;

interface Wish {
  readonly floors: Map<string, WarmFloor>;
  expiry: NodeJS.Timeout | undefined;
}

/**
 * How many sandboxes of which version to keep ready, when several replicas say so: each counts the fleet by itself, so they
 * mostly say the same, and where they do not the highest holds.
 */
export class FloorWishes {
  readonly #wishes = new Map<object, Wish>();
  /** What was told last. */
  #told = new Map<string, WarmFloor>();

  /** @param tell is told what changed; 0 sandboxes end a floor. */
  constructor(private readonly tell: (floors: readonly WarmFloor[]) => void) {}

  /** A session of this replica begins: with none. What holds is not changed before it says something, if only that there are none. */
  begin(replica: object): void {
    this.#end(replica);
    this.#wishes.set(replica, { floors: new Map(), expiry: undefined });
    // Its floors follow within moments: ending those that it had would be for nothing.
  }

  /** Replaces what the replica said before of these versions; an empty list is an answer too. */
  set(replica: object, floors: readonly WarmFloor[]): void {
    const wish = this.#wishes.get(replica);
    if (wish === undefined) return;
    for (const floor of floors) wish.floors.set(keyOf(floor), floor);
    this.#tellChanges();
  }

  /** The link to the replica broke. */
  lost(replica: object): void {
    const wish = this.#wishes.get(replica);
    if (wish === undefined) return;
    wish.expiry ??= setTimeout(() => {
      this.#end(replica);
      this.#tellChanges();
    }, AFTER_LOSS_MS).unref();
  }

  /** Whoever is told may have given up what it was told. */
  tellAgain(): void {
    if (this.#told.size > 0) this.tell([...this.#told.values()]);
  }

  forget(versionIds: readonly string[]): void {
    const gone = new Set(versionIds);
    for (const floors of [this.#told, ...[...this.#wishes.values()].map((wish) => wish.floors)]) {
      for (const [key, { spec }] of floors) if (gone.has(spec?.versionId ?? '')) floors.delete(key);
    }
  }

  close(): void {
    for (const replica of [...this.#wishes.keys()]) this.#end(replica);
  }

  #end(replica: object): void {
    clearTimeout(this.#wishes.get(replica)?.expiry);
    this.#wishes.delete(replica);
  }

  #tellChanges(): void {
    const wanted = new Map<string, WarmFloor>();
    for (const { floors } of this.#wishes.values()) {
      for (const [key, floor] of floors) {
        if (floor.sandboxes > (wanted.get(key)?.sandboxes ?? 0)) wanted.set(key, floor);
      }
    }
    const changes: WarmFloor[] = [];
    for (const [key, floor] of this.#told) if (!wanted.has(key)) changes.push({ ...floor, sandboxes: 0 });
    for (const [key, floor] of wanted) if (this.#told.get(key)?.sandboxes !== floor.sandboxes) changes.push(floor);
    this.#told = wanted;
    if (changes.length > 0) this.tell(changes);
  }
}

function keyOf({ spec, isolation }: WarmFloor): string {
  return `${spec?.versionId}/${isolation}`;
}
