import { RUNTIME_NAMES, type RuntimeName } from '@lambda-fleet/common/runtime-names';
import type { EngineClient } from './engine-client.js';

export const DEFAULT_IMAGE_PREFIX = 'lambda-fleet/runtime-';
const TAG = 'current';
/** Image label with the program and arguments that a sandbox starts, a JSON array. */
const ENTRY_LABEL = 'lambda.entry';

/** Of `image` each function has its own. */
const IMAGE_RUNTIMES = RUNTIME_NAMES.filter((name) => name !== 'image');

export interface RuntimeImage {
  readonly name: RuntimeName;
  /** The image's digest. */
  readonly id: string;
  readonly entry: readonly string[];
}

/** Finds the images of the runtimes on the engine, and remembers them until one turns out to be gone. */
export class RuntimeImages {
  readonly #known = new Map<RuntimeName, RuntimeImage>();

  constructor(
    private readonly engine: EngineClient,
    private readonly prefix: string,
  ) {}

  async present(): Promise<readonly RuntimeImage[]> {
    const found = await Promise.all(IMAGE_RUNTIMES.map((name) => this.#inspect(name)));
    return found.filter((image) => image !== undefined);
  }

  async get(name: RuntimeName): Promise<RuntimeImage> {
    const image = this.#known.get(name) ?? (await this.#inspect(name));
    if (image === undefined) throw new Error(`the image ${this.prefix}${name}:${TAG} is not on this engine`);
    return image;
  }

  forget(name: RuntimeName): void {
    this.#known.delete(name);
  }

  async #inspect(name: RuntimeName): Promise<RuntimeImage | undefined> {
    const reference = `${this.prefix}${name}:${TAG}`;
    const info = await this.engine.inspectImage(reference);
    if (info === undefined) {
      this.#known.delete(name);
      return undefined;
    }
    const image = { name, id: info.Id, entry: parseEntry(reference, info.Config.Labels?.[ENTRY_LABEL]) };
    this.#known.set(name, image);
    return image;
  }
}

function parseEntry(reference: string, label: string | undefined): readonly string[] {
  const entry: unknown = label === undefined ? undefined : JSON.parse(label);
  if (!Array.isArray(entry) || entry.length === 0 || !entry.every((arg) => typeof arg === 'string')) {
    throw new Error(`the image ${reference} has no usable label ${ENTRY_LABEL}; build it again`);
  }
  return entry;
}
