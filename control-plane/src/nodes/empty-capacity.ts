import type { Capacity } from '@lambda-fleet/proto';

/** Of an agent that has not reported any. */
export const EMPTY_CAPACITY: Capacity = {
  memoryBytesTotal: 0,
  memoryBytesFree: 0,
  slotsTotal: 0,
  slotsFree: 0,
  versions: [],
  blanks: [],
  sandboxesLeaked: 0,
};
