import { errorText } from '@lambda-fleet/common/errors';
import type { Logger } from '@lambda-fleet/common/logger';
import type { SelfTestCheck } from '@lambda-fleet/proto';
import type {
  FoundSandbox,
  Isolation,
  Network,
  SandboxDriver,
  SandboxInstance,
  SandboxSpec,
} from '../drivers/sandbox-driver.js';
import type { SandboxPlaces } from '../sandboxes/sandbox-directories.js';
import { isTrial, runTrial } from './trial.js';
import { trialCode } from './trial-code.js';

export interface TriedDriverOptions {
  readonly driver: SandboxDriver;
  readonly places: SandboxPlaces;
  readonly log: Logger;
}

interface Kind {
  readonly isolation: Isolation;
  readonly network: Network;
}

/** A machine under load may fail once. */
const ATTEMPTS = 2;

/**
 * A driver whose kinds of sandbox (isolation and network) are tried for real before they are relied on.
 *
 * Each kind is untried → trying → good | bad, and stays so for the agent's life. A kind is offered until it turns out bad:
 * offering it late would let functions that may choose run with less isolation meanwhile. So that nothing depends on the
 * hope, a sandbox waits for its kind's trial (about a second after the agent's start), and is refused when the kind is
 * bad. Plain runc alone does not wait: what a trial of it would find shows in the sandbox itself.
 *
 * `egress` is offered as long as every isolation that is offered can have it: Hello says nothing about pairs.
 */
export class TriedDriver implements SandboxDriver {
  readonly name: SandboxDriver['name'];
  readonly adjustable: boolean;
  readonly memoryBytesMax: number | undefined;
  readonly #trials = new Map<string, Promise<void>>();
  readonly #bad: Kind[] = [];
  readonly #listeners: (() => void)[] = [];
  /** Of each kind what its last try found. */
  readonly #checks = new Map<string, readonly SelfTestCheck[]>();
  #onChecked: () => void = () => undefined;
  readonly #closing = new AbortController();

  constructor(private readonly options: TriedDriverOptions) {
    const { driver } = options;
    this.name = driver.name;
    this.adjustable = driver.adjustable;
    this.memoryBytesMax = driver.memoryBytesMax;
    driver.onOfferChange?.(() => this.#changed());
  }

  get isolation(): readonly Isolation[] {
    return this.options.driver.isolation.filter((isolation) => !this.#isBad({ isolation, network: 'none' }));
  }

  get networks(): readonly Network[] {
    const { isolation } = this;
    return this.options.driver.networks.filter((network) =>
      isolation.every((each) => !this.#isBad({ isolation: each, network })),
    );
  }

  /** What was tried so far, of all kinds. */
  get selfTest(): SelfTestCheck[] {
    return [...this.#checks.values()].flat();
  }

  /** Called whenever a kind has been tried. One listener. */
  onSelfTest(listener: () => void): void {
    this.#onChecked = listener;
  }

  onOfferChange(listener: () => void): void {
    this.#listeners.push(listener);
  }

  /** Tries every kind, one after the other. Never rejects; takes about a second for each. */
  async tryAll(): Promise<void> {
    const { isolation, networks } = this.options.driver;
    for (const network of networks) {
      for (const each of isolation) await this.#trial({ isolation: each, network }).catch(() => {});
    }
  }

  /** Gives up the trial that runs. Resolves when nothing of it is left. Never rejects. */
  async giveUp(): Promise<void> {
    this.#closing.abort();
    await Promise.allSettled(this.#trials.values());
  }

  async close(): Promise<void> {
    await this.giveUp();
    await this.options.driver.close?.();
  }

  runtimes(): ReturnType<SandboxDriver['runtimes']> {
    return this.options.driver.runtimes();
  }

  taskRootInside(taskDirHost: string): string {
    return this.options.driver.taskRootInside(taskDirHost);
  }

  async start(spec: SandboxSpec): Promise<SandboxInstance> {
    if (spec.isolation !== 'runc' || spec.network !== 'none') await this.#trial(spec);
    return await this.options.driver.start(spec);
  }

  async find(): Promise<readonly FoundSandbox[]> {
    const found = await this.options.driver.find();
    return found.filter(({ id }) => !isTrial(id));
  }

  removeLeftovers(): Promise<number> {
    return this.options.driver.removeLeftovers();
  }

  #changed(): void {
    for (const listener of this.#listeners) listener();
  }

  #checked({ isolation, network }: Kind, checks: readonly SelfTestCheck[]): void {
    this.#checks.set(`${isolation}/${network}`, checks);
    this.#onChecked();
  }

  #isBad(kind: Kind): boolean {
    return this.#bad.some(({ isolation, network }) => isolation === kind.isolation && network === kind.network);
  }

  /** Rejects when the kind is bad. */
  #trial(kind: Kind): Promise<void> {
    const key = `${kind.isolation}/${kind.network}`;
    const trial = this.#trials.get(key) ?? this.#try(kind);
    this.#trials.set(key, trial);
    return trial;
  }

  async #try({ isolation, network }: Kind): Promise<void> {
    const { driver, places, log } = this.options;
    const { signal } = this.#closing;
    // A container image is nobody's to try.
    const runtimes = (await driver.runtimes()).map(({ name }) => name).filter((name) => name !== 'image');
    const runtime = runtimes.find((name) => trialCode(name) !== undefined) ?? runtimes[0];
    // Nothing can be started at all, and Hello says so.
    if (runtime === undefined) return;
    for (let attempt = 1; ; attempt += 1) {
      const checks: SelfTestCheck[] = [];
      const onCheck = (check: SelfTestCheck): void => void checks.push(check);
      try {
        const { bootMs } = await runTrial({ driver, places, isolation, network, runtime, signal, onCheck });
        this.#checked({ isolation, network }, checks);
        log.info({ isolation, network, runtime, bootMs: Math.round(bootMs) }, 'sandbox_trial_passed');
        return;
      } catch (err) {
        if (signal.aborted) throw err;
        const why = errorText(err);
        log.error({ isolation, network, runtime, why, attempt }, 'sandbox_trial_failed');
        if (attempt < ATTEMPTS) continue;
        this.#bad.push({ isolation, network });
        this.#checked({ isolation, network }, checks);
        log.error({ isolation, network, why }, 'sandbox_kind_not_offered');
        this.#changed();
        const kind = network === 'none' ? isolation : `${isolation} with a network`;
        throw new Error(`sandboxes with ${kind} do not work on this node: ${why}`, { cause: err });
      }
    }
  }
}
