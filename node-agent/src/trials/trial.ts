import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { withDeadline } from '@lambda-fleet/common/deadline';
import type { RuntimeName } from '@lambda-fleet/common/runtime-names';
import { Conversation } from '../channel/conversation.js';
import type { Isolation, Network, SandboxDriver, SandboxInstance } from '../drivers/sandbox-driver.js';
import type { SandboxPlaces } from '../sandboxes/sandbox-directories.js';
import { type MemoryStep, type NetworkAnswer, type NetworkStep, trialCode } from './trial-code.js';

export interface TrialOptions {
  readonly driver: SandboxDriver;
  readonly places: SandboxPlaces;
  readonly isolation: Isolation;
  readonly network: Network;
  readonly runtime: RuntimeName;
}

export interface TrialResult {
  /** From the call of the driver to the runtime's greeting. */
  readonly bootMs: number;
  /** False when the runtime runs no source text, so that only its boot was tried. */
  readonly probed: boolean;
}

const MEMORY_MB = 128;
/** Enough to be killed for, and little enough to do no harm where nothing is limited. */
const TAKEN_MB = 192;
const TRIAL_DEADLINE_MS = 40_000;
const HELLO_DEADLINE_MS = 20_000;
/** Answers nobody (TEST-NET-1): without a network not even the attempt to reach it leaves the sandbox. */
const OUTSIDE = { host: '192.0.2.1', port: 443 };

const PREFIX = 'trial-';

/** Whether a sandbox of this id was started by {@link runTrial}. */
export function isTrial(sandboxId: string): boolean {
  return sandboxId.startsWith(PREFIX);
}

/**
 * Starts one sandbox for real, from the driver's start over the channel to a function that looks around and is killed for its
 * memory, and removes it. Rejects with a reason for people when any of that is not as it has to be.
 */
export async function runTrial(options: TrialOptions): Promise<TrialResult> {
  const id = `${PREFIX}${randomBytes(6).toString('hex')}`;
  const trial = new Trial(options, id);
  try {
    return await withDeadline('trying a sandbox', TRIAL_DEADLINE_MS, trial.run());
  } finally {
    await trial.clear();
  }
}

class Trial {
  #instance: SandboxInstance | undefined;
  #conversation: Conversation | undefined;
  #output = '';
  #cleared = false;

  constructor(
    private readonly options: TrialOptions,
    private readonly id: string,
  ) {}

  async run(): Promise<TrialResult> {
    const { driver, places, isolation, network, runtime } = this.options;
    const directories = await places.make(this.id);
    const nonce = randomBytes(16).toString('hex');
    const startedAt = performance.now();
    const instance = await driver.start({
      id: this.id,
      runtime,
      isolation,
      network,
      limits: { memoryMb: MEMORY_MB, cpus: 1 },
      heapMemoryMb: MEMORY_MB,
      nonce,
      ...directories,
    });
    // The deadline may have passed meanwhile.
    if (this.#cleared) {
      await instance.stop();
      throw new Error('it came too late');
    }
    this.#instance = instance;
    instance.onOutput((_, bytes) => {
      this.#output = (this.#output + bytes.toString()).slice(-1_000);
    });
    const ended = instance.exited.then(({ code, signal }) => {
      throw new Error(`the runtime ended before it connected (${signal ?? `status ${code}`}) ${this.#output}`.trimEnd());
    });
    ended.catch(() => {});
    const conversation = new Conversation({
      stream: await Promise.race([instance.channel, ended]),
      nonce,
      helloDeadlineMs: HELLO_DEADLINE_MS,
      pingIntervalMs: TRIAL_DEADLINE_MS,
    });
    this.#conversation = conversation;
    conversation.listen({ wantsLog: () => false, log: () => {}, closed: () => instance.channelClosed() });
    await conversation.hello;
    const bootMs = performance.now() - startedAt;
    const code = trialCode(runtime);
    if (code === undefined) return { bootMs, probed: false };
    await writeFile(join(directories.taskDir, code.file), code.source);
    await this.#initialise(conversation, code.handler);
    await this.#probeNetwork(conversation);
    instance.freeze();
    instance.thaw();
    await this.#probeMemory(conversation, instance);
    return { bootMs, probed: true };
  }

  async clear(): Promise<void> {
    this.#cleared = true;
    this.#conversation?.close();
    await this.#instance?.stop();
    await this.options.places.remove(this.id);
  }

  async #initialise(conversation: Conversation, handler: string): Promise<void> {
    const init = await conversation.init({
      handler,
      functionName: 'trial',
      functionVersion: '1',
      functionArn: '',
      memoryMb: MEMORY_MB,
      timeoutMs: TRIAL_DEADLINE_MS,
      environment: {},
      logGroup: '',
      logStream: '',
      concurrency: 1,
      realm: '',
    });
    if (!init.ready) throw new Error(`its runtime cannot load code: ${init.error.errorMessage}`);
  }

  async #probeNetwork(conversation: Conversation): Promise<void> {
    const { interfaces, dial } = (await this.#invoke(conversation, { step: 'network', ...OUTSIDE })) as NetworkAnswer;
    if (dial === 'connected') throw new Error('its function reached an address that no function may reach');
    if (this.options.network !== 'none') return;
    const others = interfaces.filter((name) => name !== 'lo');
    if (others.length > 0) throw new Error(`it has a network (${others.join(', ')}), and was to have none`);
  }

  async #probeMemory(conversation: Conversation, instance: SandboxInstance): Promise<void> {
    instance.resetPeak();
    const taken = await this.#invoke(conversation, { step: 'memory', megabytes: TAKEN_MB }).catch(() => undefined);
    if (taken !== undefined) throw new Error(`its function took ${TAKEN_MB} MB, and was to have ${MEMORY_MB}`);
    const { outOfMemory, code, signal } = await instance.exited;
    if (outOfMemory) return;
    throw new Error(
      `its function ended with ${signal ?? `status ${code}`} when it took too much memory, and nothing says that memory was why`,
    );
  }

  async #invoke(conversation: Conversation, event: NetworkStep | MemoryStep): Promise<unknown> {
    const message = { id: event.step, deadlineMs: Date.now() + TRIAL_DEADLINE_MS, arn: '', traceId: '', clientContext: '' };
    const result = await conversation.invoke({ ...message, http: false }, Buffer.from(JSON.stringify(event)), () => {});
    if (result.kind === 'error') throw new Error(`its function failed: ${result.error.errorMessage}`);
    return JSON.parse(result.body.toString());
  }
}
