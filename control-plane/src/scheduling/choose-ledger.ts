import type { Lifecycle } from '@lambda-fleet/common/lifecycle';
import type { Logger } from '@lambda-fleet/common/logger';
import type { Secret } from '@lambda-fleet/common/secret';
import { MemoryPlacementLedger } from './memory-placement-ledger.js';
import type { PlacementLedger } from './placement-ledger.js';
import { RedisPlacementLedger } from './redis-placement-ledger.js';

export interface LedgerChoice {
  /** Of the Redis that the replicas of a fleet share. Undefined: this process has a ledger of its own. */
  readonly url: Secret | undefined;
  /** Others have given something back. */
  readonly onRoom: () => void;
  readonly log: Logger;
  readonly lifecycle: Lifecycle;
}

export function chooseLedger({ url, onRoom, log, lifecycle }: LedgerChoice): PlacementLedger {
  if (url === undefined) return new MemoryPlacementLedger();
  const ledger = new RedisPlacementLedger({ url, onRoom, log });
  lifecycle.onClose('placement ledger', () => ledger.close());
  return ledger;
}
