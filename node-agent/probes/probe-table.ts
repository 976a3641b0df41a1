import { fileProbes } from './file-probes.js';
import { kernelProbes } from './kernel-probes.js';
import { networkProbes } from './network-probes.js';
import type { Probe } from './probe.js';
import { protocolProbes } from './protocol-probes.js';
import { realmProbes } from './realm-probes.js';
import { resourceProbes } from './resource-probes.js';
import { sharingProbes } from './sharing-probes.js';

/** Every probe, in the order of the page. */
export const PROBES: readonly Probe[] = [
  ...fileProbes,
  ...kernelProbes,
  ...networkProbes,
  ...resourceProbes,
  ...sharingProbes,
  ...protocolProbes,
  ...realmProbes,
];
