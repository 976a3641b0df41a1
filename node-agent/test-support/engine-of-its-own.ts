import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import Docker from 'dockerode';

const SCRIPT = fileURLToPath(new URL('../../scripts/engine.mjs', import.meta.url));

export interface EngineRuntimes {
  readonly [name: string]: { readonly path: string; readonly runtimeArgs: readonly string[] };
}

/** A Docker engine that only one test uses, in a network namespace of its own. */
export class EngineOfItsOwn {
  private constructor(
    private readonly child: ChildProcess,
    readonly host: string,
  ) {}

  /**
   * `runtimes` are what it offers beside runc; by default gVisor as it has to be. `ownRules` lets it make its own firewall
   * rules, as engines usually do.
   */
  static async start(runtimes?: EngineRuntimes, ownRules = false): Promise<EngineOfItsOwn> {
    if (process.platform !== 'linux' || process.getuid?.() !== 0) {
      throw new Error('this test starts a Docker engine of its own, which only root on Linux can');
    }
    const args = [JSON.stringify({ runtimes, ownRules })];
    const child = spawn(process.execPath, [SCRIPT, ...args], { stdio: ['pipe', 'pipe', 'inherit'] });
    for await (const line of createInterface({ input: child.stdout })) return new EngineOfItsOwn(child, line);
    throw new Error('a Docker engine for this test could not be started');
  }

  /** Of the daemon, in whose network namespace its bridges are. */
  async pid(): Promise<number> {
    return Number(await readFile(join(dirname(this.host.slice('unix://'.length)), 'docker.pid'), 'utf8'));
  }

  get docker(): Docker {
    return new Docker({ socketPath: this.host.slice('unix://'.length) });
  }

  /** Copies images from the engine that tests usually use. 1–3 s for each. */
  async copyImages(...names: readonly string[]): Promise<void> {
    for (const name of names) {
      const source = await usualEngine().getImage(name).get();
      const loading = await this.docker.loadImage(source);
      loading.resume();
      await once(loading, 'end');
    }
  }

  async stop(): Promise<void> {
    const ended = once(this.child, 'exit');
    this.child.stdin?.end();
    await ended;
  }
}

function usualEngine(): Docker {
  const host = process.env.DOCKER_HOST;
  return host?.startsWith('unix://') ? new Docker({ socketPath: host.slice('unix://'.length) }) : new Docker();
}
