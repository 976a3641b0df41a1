import type { Logger } from '@lambda-fleet/common/logger';
import type { InvokeResult } from '../channel/conversation.js';
import type { SandboxDriver } from '../drivers/sandbox-driver.js';
import type { Sandbox } from './sandbox.js';
import type { SandboxPlaces } from './sandbox-directories.js';
import type { SandboxKind } from './sandbox-kind.js';
import type { SandboxShape } from './sandbox-shape.js';
import type { SandboxState } from './sandbox-states.js';

export interface SandboxOptions {
  readonly kind: SandboxKind;
  /** What it is for; undefined makes a blank, which is told by {@link Sandbox.assign}. */
  readonly shape: SandboxShape | undefined;
  readonly driver: SandboxDriver;
  readonly places: SandboxPlaces;
  readonly log: Logger;
  /** Called in the turn of each change of state or of what runs in it. */
  readonly changed: (sandbox: Sandbox, from: SandboxState) => void;
}

export interface TimedInvokeResult {
  readonly result: InvokeResult;
  /** From the event being written to the result, µs. */
  readonly runUs: number;
}
