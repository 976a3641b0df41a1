import { join } from 'node:path';
import type { Config } from '../config.js';
import { nodeCapacity } from './capacity.js';
import type { DataDir } from './data-dir.js';
import type { FleetScripts, UpOptions } from './fleet-options.js';
import { LogFile } from './log-file.js';
import { nodeProgram } from './node-child.js';
import { Pki, type TlsFiles } from './pki.js';
import { freePort, takenPorts } from './ports.js';
import type { ChildProgram } from './supervised-child.js';

/** Makes the programs of a fleet's processes: what each is told, and where it writes. */
export class Fleet {
  readonly #pki: Pki;
  readonly #logs: LogFile[] = [];

  constructor(
    private readonly config: Config,
    private readonly options: UpOptions,
    private readonly dataDir: DataDir,
    private readonly scripts: FleetScripts,
  ) {
    this.#pki = new Pki(dataDir.pki);
  }

  async controlPlane(databaseUrl: string): Promise<ChildProgram> {
    return nodeProgram({
      name: 'control plane',
      script: this.scripts.controlPlane,
      log: this.log('control-plane'),
      environment: {
        ...this.config.inherited,
        ...tlsVariables(await this.#pki.controlPlane()),
        LAMBDA_HTTP_HOST: this.options.host,
        LAMBDA_HTTP_PORT: String(this.options.httpPort),
        LAMBDA_TLS_CA_KEY: this.#pki.authorityKey,
        LAMBDA_GRPC_PORT: String(this.options.grpcPort),
        LAMBDA_ENROLL_PORT: String(await this.#enrollPort()),
        DATABASE_URL: databaseUrl,
        LAMBDA_API_KEY_FILE: this.dataDir.apiKey,
        LAMBDA_DEV: 'true',
        // Nobody balances load here, and whoever presses Ctrl-C waits.
        LAMBDA_LEAVE_DELAY_MS: '0',
        LAMBDA_LEAVE_S: '3',
        LAMBDA_LOG_LEVEL: this.config.logLevel,
      },
    });
  }

  /** @param known the nodes that the fleet has, if that is known: others may have been removed, and get a new certificate */
  async agents(driver: 'docker' | 'process', known: ReadonlySet<string> | undefined): Promise<readonly ChildProgram[]> {
    const { memoryMb, slots } = nodeCapacity(this.config, this.options.nodes);
    const programs: ChildProgram[] = [];
    for (let number = 1; number <= this.options.nodes; number += 1) {
      const id = `node-${number}`;
      programs.push(
        nodeProgram({
          name: id,
          script: this.scripts.agent,
          log: this.log(id),
          environment: {
            ...this.config.inherited,
            ...tlsVariables(await this.#pki.node(id, known?.has(id) === false)),
            LAMBDA_CONTROL_PLANE: `localhost:${this.options.grpcPort}`,
            LAMBDA_DATA_DIR: this.dataDir.node(id),
            LAMBDA_DRIVER: driver,
            LAMBDA_MEMORY_MB: String(memoryMb),
            LAMBDA_SLOTS: String(slots),
            LAMBDA_METRICS_PORT: String(await orFreePort(this.options.grpcPort + 1 + number)),
            ...(this.options.builds === true ? { LAMBDA_BUILDS: 'true' } : {}),
            // Whoever stops a fleet on his own machine does not wait for a long call.
            LAMBDA_LEAVE_S: '2',
            LAMBDA_LOG_LEVEL: this.config.logLevel,
          },
        }),
      );
    }
    return programs;
  }

  /** HTTP is not served yet and would not be seen there. */
  async #enrollPort(): Promise<number> {
    const wanted = this.options.grpcPort + 1;
    for (;;) {
      const port = await orFreePort(wanted === this.options.httpPort ? wanted + 1 : wanted);
      if (port !== this.options.httpPort) return port;
    }
  }

  log(name: string): LogFile {
    const log = new LogFile(join(this.dataDir.logs, `${name}.log`));
    this.#logs.push(log);
    return log;
  }

  /** After every process has ended. */
  closeLogs(): void {
    for (const log of this.#logs) log.close();
  }
}

/** The wanted port, or a free one when somebody has it. */
async function orFreePort(wanted: number): Promise<number> {
  const need = { port: wanted, host: '127.0.0.1', flag: '' };
  const isFree = wanted <= 65_535 && (await takenPorts([need], 0)).length === 0;
  return isFree ? wanted : await freePort(need.host);
}

function tlsVariables({ ca, cert, key }: TlsFiles): Record<string, string> {
  return { LAMBDA_TLS_CA: ca, LAMBDA_TLS_CERT: cert, LAMBDA_TLS_KEY: key };
}
