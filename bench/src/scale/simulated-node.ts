import type { Capacity, Hello } from '@lambda-fleet/proto';
import type { SimulatedFunction } from './function-mix.js';

const NODE_SLOTS = 16;
const NODE_MEMORY_BYTES = 16 * 1024 ** 3;

export interface SimulatedSandbox {
  readonly node: SimulatedNode;
  readonly of: SimulatedFunction;
  /** Virtual milliseconds. */
  idleSince: number;
  state: 'busy' | 'idle' | 'gone';
}

/** The sandboxes of one machine: those that are idle stay until they are too old or their memory is needed, the oldest first. */
export class SimulatedNode {
  readonly #byVersion = new Map<string, { idle: SimulatedSandbox[]; busy: number }>();
  /** The one that is idle for the longest time first. */
  readonly #idle = new Set<SimulatedSandbox>();
  #memoryBytesUsed = 0;
  #busy = 0;
  idleBytes = 0;
  /** Virtual milliseconds of the last report, and whether another is on its way. */
  reportedAt = Number.NEGATIVE_INFINITY;
  reportDue = false;

  constructor(readonly id: string) {}

  /** The sandbox that takes the invocation, and whether it was there. */
  begin(of: SimulatedFunction): { sandbox: SimulatedSandbox; warm: boolean } {
    const versionId = of.version.spec.versionId;
    const version = this.#byVersion.get(versionId) ?? { idle: [], busy: 0 };
    this.#byVersion.set(versionId, version);
    this.#busy += 1;
    version.busy += 1;
    const idle = version.idle.pop();
    if (idle !== undefined) {
      this.#idle.delete(idle);
      this.idleBytes -= of.memoryBytes;
      idle.state = 'busy';
      return { sandbox: idle, warm: true };
    }
    for (const oldest of this.#idle) {
      if (this.#memoryBytesUsed + of.memoryBytes <= NODE_MEMORY_BYTES) break;
      this.remove(oldest);
    }
    this.#memoryBytesUsed += of.memoryBytes;
    return { sandbox: { node: this, of, idleSince: 0, state: 'busy' }, warm: false };
  }

  end(sandbox: SimulatedSandbox, now: number): void {
    const version = this.#byVersion.get(sandbox.of.version.spec.versionId);
    if (version === undefined) throw new Error('a sandbox of no version');
    this.#busy -= 1;
    version.busy -= 1;
    version.idle.push(sandbox);
    this.#idle.add(sandbox);
    this.idleBytes += sandbox.of.memoryBytes;
    sandbox.state = 'idle';
    sandbox.idleSince = now;
  }

  /** Of an idle one. */
  remove(sandbox: SimulatedSandbox): void {
    const { of } = sandbox;
    const versionId = of.version.spec.versionId;
    const version = this.#byVersion.get(versionId);
    this.#idle.delete(sandbox);
    version?.idle.splice(version.idle.indexOf(sandbox), 1);
    if (version?.idle.length === 0 && version.busy === 0) this.#byVersion.delete(versionId);
    this.#memoryBytesUsed -= of.memoryBytes;
    this.idleBytes -= of.memoryBytes;
    sandbox.state = 'gone';
  }

  capacity(): Capacity {
    return {
      ...{
        memoryBytesTotal: NODE_MEMORY_BYTES,
        memoryBytesFree: NODE_MEMORY_BYTES - this.#memoryBytesUsed + this.idleBytes,
      },
      ...{ slotsTotal: NODE_SLOTS, slotsFree: NODE_SLOTS - this.#busy, sandboxesLeaked: 0 },
      versions: Array.from(this.#byVersion, ([versionId, { idle, busy }]) => ({ versionId, idle: idle.length, busy })),
      blanks: ['nodejs', 'python'].map((runtime) => ({
        ...{ runtime, isolation: 'runc', network: 'none', memoryMb: 0, count: 2 },
      })),
    };
  }

  hello(): Hello {
    return {
      ...{ protocolMin: 1, protocolMax: 1, agentVersion: 'simulated', bootId: this.id, labels: {}, selfTest: [] },
      ...{ isolation: ['runc'], networks: ['none', 'egress'], architecture: 'x64', builds: false },
      runtimes: ['nodejs', 'nodejs20.x', 'nodejs22.x', 'python', 'python3.11', 'provided'].map((name) => ({
        name,
        digest: '',
      })),
      ...{ running: [], keptResults: [], capacity: this.capacity() },
    };
  }
}
