import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import { withDeadline } from '@lambda-fleet/common/deadline';
import { errorText } from '@lambda-fleet/common/errors';
import type { RuntimeName } from '@lambda-fleet/common/runtime-names';
import type { SelfTestCheck } from '@lambda-fleet/proto';
import type { RuntimeConversation } from '../channel/runtime-conversation.js';
import { startConversation } from '../channel/start-conversation.js';
import type { Isolation, Network, SandboxDriver, SandboxInstance } from '../drivers/sandbox-driver.js';
import type { SandboxDirectories, SandboxPlaces } from '../sandboxes/sandbox-directories.js';
import { type MemoryStep, type NetworkAnswer, type NetworkStep, type Target, trialCode } from './trial-code.js';

export interface TrialOptions {
  readonly driver: SandboxDriver;
  readonly places: SandboxPlaces;
  readonly isolation: Isolation;
  readonly network: Network;
  readonly runtime: RuntimeName;
  /** Gives it up. */
  readonly signal?: AbortSignal | undefined;
  /** Told each thing that was tried, passed or not, as soon as that is known. */
  readonly onCheck?: ((check: SelfTestCheck) => void) | undefined;
}

export interface TrialResult {
  /** From its making to the runtime's greeting. */
  readonly bootMs: number;
  /** False when the runtime runs no source text, so that only its boot was tried. */
  readonly probed: boolean;
}

const MEMORY_MB = 128;
/** Enough to be killed for, and little enough to do no harm where nothing is limited. */
const TAKEN_MB = 192;
const TRIAL_DEADLINE_MS = 40_000;
/** Answers nobody (TEST-NET-1), and clouds answer their machines at the second. */
const OUTSIDE: readonly Target[] = [
  { host: '192.0.2.1', port: 443 },
  { host: '169.254.169.254', port: 80 },
];

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
    return await Promise.race([
      withDeadline('trying a sandbox', TRIAL_DEADLINE_MS, trial.run()),
      aborted(options.signal),
    ]);
  } finally {
    await trial.clear();
  }
}

function aborted(signal: AbortSignal | undefined): Promise<never> {
  return new Promise((_, reject) => {
    const abort = () => reject(new Error('the trial was given up'));
    if (signal?.aborted === true) abort();
    signal?.addEventListener('abort', abort, { once: true });
  });
}

interface Canary {
  readonly port: number;
  close(): void;
}

/** Waits at an address of this machine for somebody who must not come; undefined where it is no address of its network namespace. */
async function listenAt(address: string): Promise<Canary | undefined> {
  const server = createServer((socket) => socket.destroy());
  return await new Promise((resolve) => {
    server.once('error', () => resolve(undefined));
    server.listen(0, address, () => {
      resolve({ port: (server.address() as AddressInfo).port, close: () => void server.close() });
    });
  });
}

class Trial {
  #making: Promise<SandboxDirectories> | undefined;
  #starting: Promise<SandboxInstance> | undefined;
  #cleared = false;
  #conversation: RuntimeConversation | undefined;
  #output = '';

  constructor(
    private readonly options: TrialOptions,
    private readonly id: string,
  ) {}

  async run(): Promise<TrialResult> {
    const { network, runtime } = this.options;
    const startedAt = performance.now();
    let bootMs = 0;
    let instance: SandboxInstance | undefined;
    const conversation = await this.#check('start', async () => {
      const started = await this.#start();
      instance = started.instance;
      bootMs = performance.now() - startedAt;
      const code = trialCode(runtime);
      if (code === undefined) return undefined;
      await writeFile(join(started.directories.taskDir, code.file), code.source);
      await this.#initialise(started.conversation, code.handler);
      return started.conversation;
    });
    if (conversation === undefined || instance === undefined) return { bootMs, probed: false };
    const sandbox = instance;
    if (network === 'none') await this.#check('no-network', () => this.#probeNoNetwork(conversation));
    else await this.#check('network-guarded', () => this.#probeEgress(conversation, sandbox));
    await this.#check('freeze', async () => {
      sandbox.freeze();
      sandbox.thaw();
    });
    await this.#check('memory-limit', () => this.#probeMemory(conversation, sandbox));
    return { bootMs, probed: true };
  }

  async #check<T>(check: string, work: () => Promise<T>): Promise<T> {
    const { isolation, network, onCheck } = this.options;
    const named = network === 'none' ? check : `${network}-${check}`;
    const startedAt = performance.now();
    const tell = (passed: boolean, detail: string): void => {
      onCheck?.({ isolation, check: named, passed, detail, ms: Math.round(performance.now() - startedAt) });
    };
    try {
      const result = await work();
      tell(true, '');
      return result;
    } catch (err) {
      tell(false, errorText(err));
      throw err;
    }
  }

  async #start() {
    const { driver, places, isolation, network, runtime } = this.options;
    this.#making = places.make(this.id);
    const directories = await this.#making;
    if (this.#cleared) throw new Error('it was given up');
    const nonce = randomBytes(16).toString('hex');
    this.#starting = driver.start({
      id: this.id,
      runtime,
      isolation,
      network,
      limits: { memoryMb: MEMORY_MB, cpus: 1 },
      heapMemoryMb: MEMORY_MB,
      nonce,
      ...directories,
    });
    const instance = await this.#starting;
    instance.onOutput((_, bytes) => {
      this.#output = (this.#output + bytes.toString()).slice(-1_000);
      return 0;
    });
    const ended = instance.exited.then(({ code, signal }) => {
      throw new Error(
        `the runtime ended before it connected (${signal ?? `status ${code}`}) ${this.#output}`.trimEnd(),
      );
    });
    ended.catch(() => {});
    const stream = await Promise.race([instance.channel, ended]);
    const conversation = startConversation({
      runtime,
      stream,
      nonce,
      taskRoot: driver.taskRootInside(directories.taskDir),
    });
    this.#conversation = conversation;
    conversation.listen({ wantsLog: () => false, log: () => false, closed: () => instance.channelClosed() });
    await conversation.hello;
    return { instance, conversation, directories };
  }

  async clear(): Promise<void> {
    this.#cleared = true;
    this.#conversation?.close();
    // It may have been given up while it was being made.
    await this.#making?.catch(() => {});
    const instance = await this.#starting?.catch(() => undefined);
    await instance?.stop();
    await this.options.places.remove(this.id);
  }

  async #initialise(conversation: RuntimeConversation, handler: string): Promise<void> {
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

  async #probeNoNetwork(conversation: RuntimeConversation): Promise<void> {
    const { interfaces } = await this.#look(conversation, OUTSIDE);
    const others = interfaces.filter((name) => name !== 'lo');
    if (others.length > 0) throw new Error(`it has a network (${others.join(', ')}), and was to have none`);
  }

  /** Nothing is reached before its hosts are set, the host itself never, and its name server answers then. */
  async #probeEgress(conversation: RuntimeConversation, instance: SandboxInstance): Promise<void> {
    const { nameServer } = await this.#look(conversation, OUTSIDE);
    const canary = await listenAt(nameServer);
    try {
      const forbidden = canary === undefined ? OUTSIDE : [...OUTSIDE, { host: nameServer, port: canary.port }];
      await this.#look(conversation, forbidden);
      await instance.setEgressHosts([]);
      const { name } = await this.#look(conversation, forbidden.slice(1));
      if (name !== 'ENOTFOUND') throw new Error(`its name server does not answer (${name})`);
    } finally {
      canary?.close();
    }
  }

  async #look(conversation: RuntimeConversation, forbidden: readonly Target[]): Promise<NetworkAnswer> {
    const answer = (await this.#invoke(conversation, { step: 'network', targets: forbidden })) as NetworkAnswer;
    const reached = forbidden.find((_, index) => answer.dials[index] === 'connected');
    if (reached !== undefined) throw new Error(`its function reached ${reached.host}, and must not`);
    return answer;
  }

  async #probeMemory(conversation: RuntimeConversation, instance: SandboxInstance): Promise<void> {
    instance.resetPeak();
    const taken = await this.#invoke(conversation, { step: 'memory', megabytes: TAKEN_MB }).catch(() => undefined);
    if (taken !== undefined) throw new Error(`its function took ${TAKEN_MB} MB, and was to have ${MEMORY_MB}`);
    const { outOfMemory, code, signal } = await instance.exited;
    if (outOfMemory) return;
    throw new Error(
      `its function ended with ${signal ?? `status ${code}`} when it took too much memory, and nothing says that memory was why`,
    );
  }

  async #invoke(conversation: RuntimeConversation, event: NetworkStep | MemoryStep): Promise<unknown> {
    const message = {
      id: event.step,
      deadlineMs: Date.now() + TRIAL_DEADLINE_MS,
      arn: '',
      traceId: '',
      clientContext: '',
    };
    const result = await conversation.invoke({ ...message, http: false }, Buffer.from(JSON.stringify(event)), () => {});
    if (result.kind === 'error') throw new Error(`its function failed: ${result.error.errorMessage}`);
    return JSON.parse(result.body.toString());
  }
}
