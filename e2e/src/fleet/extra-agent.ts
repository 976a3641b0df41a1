import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { type Fleet, REPOSITORY } from './fleet.js';
import { descendantsOf } from './processes.js';
import { environmentOf } from './second-control-plane.js';

const SCRIPT = 'node-agent/dist/main.js';

/** Paths of an agent's certificate, which says which node it is. */
export interface AgentCertificate {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

/** Another agent of a running system, that nobody starts again when it dies. */
export class ExtraAgent {
  private constructor(private readonly child: ChildProcess) {}

  static async start(
    fleet: Fleet,
    { ca, cert, key }: AgentCertificate,
    env: Readonly<Record<string, string>> = {},
  ): Promise<ExtraAgent> {
    const first = (await descendantsOf(fleet.process.pid ?? 0)).find(({ command }) => command.includes(SCRIPT));
    if (first === undefined) throw new Error('no agent runs');
    const own = {
      ...{ LAMBDA_TLS_CA: ca, LAMBDA_TLS_CERT: cert, LAMBDA_TLS_KEY: key, LAMBDA_METRICS_PORT: '0' },
      LAMBDA_DATA_DIR: join(fleet.dataDir, 'extra-agent'),
    };
    // Without the first one's channel to its parent.
    const { NODE_CHANNEL_FD: _, ...inherited } = await environmentOf(first.pid);
    const environment = { ...inherited, ...own, ...env };
    return new ExtraAgent(spawn(process.execPath, [join(REPOSITORY, SCRIPT)], { env: environment, stdio: 'ignore' }));
  }

  /** Resolves when it has ended, with its exit status. */
  async end(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
    const { child } = this;
    if (child.exitCode !== null || child.signalCode !== null) return child.exitCode;
    const exited = new Promise<number | null>((resolve) => child.once('exit', resolve));
    child.kill(signal);
    return await exited;
  }
}
