import { randomBytes } from 'node:crypto';
import type { RuntimeName } from '@lambda-fleet/common/runtime-names';
import type { RuntimeConversation } from '../src/channel/runtime-conversation.js';
import { startConversation } from '../src/channel/start-conversation.js';
import type { SandboxDriver, SandboxInstance } from '../src/drivers/sandbox-driver.js';
import type { SandboxDirectories, SandboxPlaces } from '../src/sandboxes/sandbox-directories.js';

const MEMORY_MB = 256;

/** A real sandbox that has booted and has no code, without the pool and its rules. */
export class BlankUnderTest {
  private constructor(
    readonly conversation: RuntimeConversation,
    readonly directories: SandboxDirectories,
    readonly instance: SandboxInstance,
    private readonly remove: () => Promise<void>,
  ) {}

  static async boot(driver: SandboxDriver, places: SandboxPlaces, runtime: RuntimeName): Promise<BlankUnderTest> {
    const id = randomBytes(8).toString('hex');
    const nonce = randomBytes(16).toString('hex');
    const directories = await places.make(id);
    const instance = await driver.start({
      id,
      runtime,
      isolation: driver.isolation[0] ?? 'runc',
      network: 'none',
      limits: { memoryMb: MEMORY_MB, cpus: 2 },
      heapMemoryMb: MEMORY_MB,
      nonce,
      ...directories,
    });
    const taskRoot = driver.taskRootInside(directories.taskDir);
    const conversation = startConversation({ runtime, stream: await instance.channel, nonce, taskRoot });
    conversation.listen({ wantsLog: () => false, log: () => false, closed: () => instance.channelClosed() });
    await conversation.hello;
    return new BlankUnderTest(conversation, directories, instance, () => places.remove(id));
  }

  /** Loads the code in its task directory and calls it once. Milliseconds of loading, and the result. */
  async run(handler: string, event: unknown = {}): Promise<{ readonly initMs: number; readonly result: unknown }> {
    const startedAt = performance.now();
    const init = await this.conversation.init({
      handler,
      functionName: 'under-test',
      functionVersion: '1',
      functionArn: '',
      memoryMb: MEMORY_MB,
      timeoutMs: 10_000,
      environment: {},
      logGroup: '',
      logStream: '',
      concurrency: 1,
      realm: '',
    });
    if (!init.ready) throw new Error(init.error.errorMessage);
    const initMs = performance.now() - startedAt;
    const names = { id: 'only', arn: '', traceId: '', clientContext: '', http: false };
    const message = { ...names, deadlineMs: Date.now() + 10_000 };
    const answer = await this.conversation.invoke(message, Buffer.from(JSON.stringify(event)), () => {});
    if (answer.kind === 'error') throw new Error(answer.error.errorMessage);
    return { initMs, result: JSON.parse(answer.body.toString()) };
  }

  async stop(): Promise<void> {
    this.conversation.close();
    await this.instance.stop();
    await this.remove();
  }
}
