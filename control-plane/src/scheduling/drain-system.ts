import { FleetError } from '@lambda-fleet/common/errors';
import type { Logger } from '@lambda-fleet/common/logger';
import type { DrainProgress } from '@lambda-fleet/proto';
import type { Database } from '../db/database.js';
import type { NotificationListener } from '../db/notification-listener.js';
import { DrainReports } from '../nodes/drain-reports.js';
import { DrainTable } from '../nodes/drain-table.js';
import { DrainTeller } from '../nodes/drain-teller.js';
import { LostDrains } from '../nodes/lost-drains.js';
import { NodeDecisions } from '../nodes/node-decisions.js';
import { NodeEventSweep } from '../nodes/node-event-sweep.js';
import type { NodeRegistry } from '../nodes/node-registry.js';
import type { NodeSession } from '../nodes/node-session.js';
import type { NodeStore } from '../nodes/node-store.js';
import { NodeDrains, type NodeDrainsOptions } from './node-drains.js';

export interface DrainSystemOptions
  extends Pick<NodeDrainsOptions, 'loadFloors' | 'loadNeeds' | 'longestRunMs' | 'isolationOf'> {
  readonly database: Database;
  readonly notifications: NotificationListener;
  readonly registry: NodeRegistry;
  readonly store: NodeStore;
  /** Nodes went out of service, or came back. */
  readonly onChanged: () => void;
  readonly log: Logger;
}

/** Everything about cordons and drains, and what is kept of the history of nodes, put together. */
export interface DrainSystem {
  readonly drains: NodeDrains;
  welcomed(session: NodeSession): void;
  progress(session: NodeSession, progress: DrainProgress): void;
  /** See {@link DrainReports.requeued}. */
  requeued(nodeId: string): Promise<void>;
  close(): void;
}

const EVENTS_PER_NODE_MAX = 1_000;

/** Resolves when it is known which nodes are out of service: no agent is to be taken before. */
export async function createDrainSystem(options: DrainSystemOptions): Promise<DrainSystem> {
  const { database, notifications, registry, store, loadFloors, loadNeeds, longestRunMs, isolationOf, log } = options;
  const table = new DrainTable(database);
  const decisions: NodeDecisions = new NodeDecisions({
    ...{ database, registry, log },
    onChanged: () => {
      options.onChanged();
      teller.tellAll();
    },
  });
  const teller = new DrainTeller(decisions, registry);
  const reports = new DrainReports({ table, decisions, log });
  const eventSweep = new NodeEventSweep(database, EVENTS_PER_NODE_MAX, log);
  const lost = new LostDrains({ database, table, registry, log });
  notifications.on('nodes', () => void decisions.look());
  notifications.onRestored(() => void decisions.look());
  if (!(await decisions.look())) {
    decisions.close();
    lost.close();
    eventSweep.close();
    throw new FleetError('unavailable', 'What operators decided about nodes could not be read, so none may be let in.');
  }
  return {
    drains: new NodeDrains({
      ...{ registry, store, table, decisions },
      ...{ loadFloors, loadNeeds, longestRunMs, isolationOf },
    }),
    welcomed: (session) => teller.tell(session),
    progress: (session, progress) => void reports.receive(session, progress),
    requeued: (nodeId) => reports.requeued(nodeId),
    close: () => {
      decisions.close();
      lost.close();
      eventSweep.close();
    },
  };
}
