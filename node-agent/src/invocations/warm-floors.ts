import { randomUUID } from 'node:crypto';
import { Backoff } from '@lambda-fleet/common/backoff';
import type { Logger } from '@lambda-fleet/common/logger';
import { InvokeKind, Outcome, type VersionSpec, type WarmFloor } from '@lambda-fleet/proto';
import type { SandboxPool } from '../sandboxes/sandbox-pool.js';
import { type SandboxShape, shapeKey } from '../sandboxes/sandbox-shape.js';
import type { AgentInvocation, InvocationSink } from './invocation.js';
import { type HostOffer, isolationFor, shapeOf } from './shape-of.js';

export interface WarmFloorsOptions {
  readonly pool: SandboxPool;
  readonly offer: HostOffer;
  /** Makes a new sandbox by an invocation of kind CHECK: code is loaded and nothing run. */
  readonly start: (invocation: AgentInvocation, sink: InvocationSink) => void;
  readonly log: Logger;
}

interface Floor {
  readonly spec: VersionSpec;
  readonly shape: SandboxShape;
  readonly sandboxes: number;
  readonly backoff: Backoff;
  /** Being made now. */
  starting: number;
  /** `performance.now()` before which nothing more is made, after a failure. */
  notBefore: number;
}

/** Starting containers is the most expensive thing a node does, and callers go first. */
const STARTING_MAX = 2;
const FAILURE_BACKOFF = { firstMs: 1_000, capMs: 60_000 };
const LOOK_DELAY_MS = 20;

/**
 * Keeps as many sandboxes of a version as its floor says, used or not, and makes new ones when some have ended. Code that
 * does not load is tried again after 1 s … 1 min, for ever: a service that it needs may come back.
 */
export class WarmFloors {
  readonly #floors = new Map<string, Floor>();
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(private readonly options: WarmFloorsOptions) {}

  set(floors: readonly WarmFloor[]): void {
    for (const { spec, isolation, sandboxes } of floors) {
      const kind = isolationFor(this.options.offer, isolation);
      const shape = spec === undefined || kind === undefined ? undefined : shapeOf(spec, kind, this.options.offer);
      if (spec === undefined || shape === undefined || typeof shape === 'string') {
        this.options.log.warn({ version: spec?.versionId, isolation, reason: shape }, 'floor_not_possible');
        continue;
      }
      this.options.pool.setFloor(shape, sandboxes);
      if (sandboxes === 0) this.#floors.delete(shapeKey(shape));
      else {
        const backoff = new Backoff(FAILURE_BACKOFF);
        this.#floors.set(shapeKey(shape), { spec, shape, sandboxes, backoff, starting: 0, notBefore: 0 });
      }
    }
    this.#wake(LOOK_DELAY_MS);
  }

  forget(versionIds: readonly string[]): void {
    for (const [key, { shape }] of this.#floors) {
      if (!versionIds.includes(shape.versionId)) continue;
      this.options.pool.setFloor(shape, 0);
      this.#floors.delete(key);
    }
  }

  /** Keeps nothing ready until it is told again. */
  clear(): void {
    for (const { shape } of this.#floors.values()) this.options.pool.setFloor(shape, 0);
    this.#floors.clear();
  }

  poolChanged(): void {
    if (this.#floors.size > 0) this.#wake(LOOK_DELAY_MS);
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
  }

  #wake(delayMs: number): void {
    if (this.#closed || this.#timer !== undefined) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#look();
    }, delayMs).unref();
  }

  #look(): void {
    const now = performance.now();
    let starting = 0;
    for (const floor of this.#floors.values()) starting += floor.starting;
    let waitMs: number | undefined;
    for (const floor of this.#floors.values()) {
      while (this.options.pool.countOf(floor.shape) < floor.sandboxes && starting < STARTING_MAX) {
        if (floor.notBefore > now) {
          waitMs = Math.min(waitMs ?? Number.POSITIVE_INFINITY, floor.notBefore - now);
          break;
        }
        starting += 1;
        this.#start(floor);
      }
    }
    if (waitMs !== undefined) this.#wake(waitMs);
  }

  #start(floor: Floor): void {
    floor.starting += 1;
    const done = (failure: string | undefined): void => {
      floor.starting -= 1;
      if (failure === undefined) floor.backoff.reset();
      else {
        floor.notBefore = performance.now() + floor.backoff.next();
        this.options.log.warn({ function: floor.spec.functionName, reason: failure }, 'floor_not_filled');
      }
      this.#wake(LOOK_DELAY_MS);
    };
    this.options.start(checkOf(floor), {
      refused: (_, __, detail) => done(detail),
      // Nobody called, so nobody's log is there to take what loading prints.
      log: () => {},
      ended: ({ outcome, error }) => done(outcome === Outcome.SUCCESS ? undefined : (error?.errorMessage ?? 'unknown')),
    });
  }
}

function checkOf({ spec, shape }: Floor): AgentInvocation {
  return {
    invoke: {
      invocationId: randomUUID(),
      epoch: 0,
      kind: InvokeKind.CHECK,
      versionId: spec.versionId,
      trigger: 'provisioned',
      traceId: '',
      payloadBytes: 0,
      payloadStreamed: false,
      payload: EMPTY,
      clientContext: '',
      singleUse: false,
      isolation: shape.isolation,
    },
    spec,
    payload: EMPTY,
    arrivedAt: performance.now(),
  };
}

const EMPTY = Buffer.alloc(0);
