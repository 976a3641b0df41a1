import { execFile } from 'node:child_process';
import { randomBytes, randomInt } from 'node:crypto';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** What is lost between a namespace and the rest of the machine; `reset` answers every packet by ending its connection. */
export type Cut = 'all' | 'to-agent' | 'from-agent' | 'reset' | { readonly lossPercent: number };

/** TEST-NET-3, nobody's address; networks of functions are made of others. */
const PREFIX = '203.0.113';
/** With two addresses each. */
const SUBNETS = 63;
/** Another process may have made some, too. */
let next = randomInt(SUBNETS);

/**
 * A network namespace of its own, with one cable to this machine, which can be cut. Needs root, `ip` and `nft`, which the set-up
 * of the tests installs.
 */
export class NetworkNamespace {
  readonly #name = `lf-${randomBytes(4).toString('hex')}`;

  private constructor(
    /** This machine, as seen from inside. */
    readonly hostAddress: string,
    private readonly insideAddress: string,
  ) {}

  static async make(): Promise<NetworkNamespace> {
    next = (next + 1) % SUBNETS;
    const namespace = new NetworkNamespace(`${PREFIX}.${4 * next + 1}`, `${PREFIX}.${4 * next + 2}`);
    await namespace.#make();
    return namespace;
  }

  /** What a program is started with to be inside. */
  get command(): readonly string[] {
    return ['ip', 'netns', 'exec', this.#name];
  }

  async cut(what: Cut): Promise<void> {
    await this.heal();
    const chains = (['input', 'output'] as const).flatMap((hook) => {
      const verdict = verdictOf(what, hook);
      const device = hook === 'input' ? 'iifname' : 'oifname';
      if (verdict === undefined) return [];
      return `chain ${hook} { type filter hook ${hook} priority 0; policy accept; ${device} != "lo" ${verdict}; }`;
    });
    await this.#inside('nft', `table inet cut {\n${chains.join('\n')}\n}`);
  }

  async heal(): Promise<void> {
    // It may not be cut.
    await this.#inside('nft', 'delete table inet cut').catch(() => undefined);
  }

  async remove(): Promise<void> {
    await run('ip', ['netns', 'delete', this.#name]);
  }

  async #make(): Promise<void> {
    const [name, outside, inside] = [this.#name, `${this.#name}o`, `${this.#name}i`];
    await run('ip', ['netns', 'add', name]);
    await run('ip', ['link', 'add', outside, 'type', 'veth', 'peer', 'name', inside, 'netns', name]);
    await run('ip', ['address', 'add', `${this.hostAddress}/30`, 'dev', outside]);
    await run('ip', ['link', 'set', outside, 'up']);
    await run('ip', ['-n', name, 'address', 'add', `${this.insideAddress}/30`, 'dev', inside]);
    for (const device of ['lo', inside]) await run('ip', ['-n', name, 'link', 'set', device, 'up']);
  }

  async #inside(program: string, ...args: string[]): Promise<void> {
    const [ip = '', ...rest] = this.command;
    await run(ip, [...rest, program, ...args]);
  }
}

/** Undefined lets everything through. */
function verdictOf(what: Cut, hook: 'input' | 'output'): string | undefined {
  if (typeof what === 'object') return `numgen random mod 100 < ${what.lossPercent} drop`;
  if (what === 'reset') return 'meta l4proto tcp reject with tcp reset';
  if (what === 'to-agent' && hook === 'output') return undefined;
  if (what === 'from-agent' && hook === 'input') return undefined;
  return 'drop';
}
