import { randomUUID } from 'node:crypto';
import { credentials } from '@grpc/grpc-js';
import { createLogger } from '@lambda-fleet/common/logger';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { PlayedReplica } from '../../test-support/played-replica.js';
import { AgentLinks, type LinkRunner } from './agent-links.js';
import { REPLICAS_MAX } from './replica-list.js';

const closers: (() => void | Promise<void>)[] = [];
afterEach(async () => {
  vi.restoreAllMocks();
  for (const close of closers.splice(0).reverse()) await close();
});

async function replica(): Promise<PlayedReplica> {
  const started = await PlayedReplica.start();
  closers.push(() => started.kill());
  return started;
}

const IDLE: LinkRunner = {
  invoke: () => undefined,
  cancel: () => undefined,
  cancelAll: () => undefined,
  forget: () => undefined,
  warm: () => undefined,
  running: () => [],
  capacity: () => ({
    ...{ memoryBytesTotal: 1e9, memoryBytesFree: 1e9, slotsTotal: 4, slotsFree: 4 },
    ...{ versions: [], blanks: [], sandboxesLeaked: 0 },
  }),
};

function linksTo(...addresses: string[]) {
  const links = new AgentLinks({
    addresses,
    credentials: () => credentials.createInsecure(),
    hello: {
      ...{ protocolMin: 1, protocolMax: 2, agentVersion: 'test', bootId: randomUUID(), labels: {}, runtimes: [] },
      ...{ isolation: ['none'], architecture: 'x64', networks: ['none'], selfTest: [], builds: false },
    },
    runner: IDLE,
    onWelcomed: () => undefined,
    onDrain: () => undefined,
    log: createLogger('test', 'silent'),
  });
  links.start();
  closers.push(() => links.close());
  return { links, known: () => links.replicas().map(({ address }) => address) };
}

/** What has not answered until now has not for more than a minute. */
function passMinute(): void {
  const { now } = performance;
  vi.spyOn(performance, 'now').mockImplementation(() => now.call(performance) + 61_000);
}

describe('AgentLinks', () => {
  it('knows the replicas that are announced beside those that were configured', async () => {
    const [configured, announced] = [await replica(), await replica()];
    configured.announce([configured.address, announced.address]);
    const { known } = linksTo(configured.address);
    await expect.poll(() => announced.linked).toBe(true);
    expect(known()).toEqual([configured.address, announced.address]);
  });

  it('gives up a replica that named itself and died, when no other names it for a minute', async () => {
    const [lasting, dying] = [await replica(), await replica()];
    for (const each of [lasting, dying]) each.announce([lasting.address, dying.address]);
    const { links, known } = linksTo(lasting.address);
    await expect.poll(() => [...links.ready()].length).toBe(2);
    dying.kill();
    await expect.poll(() => [...links.ready()].length).toBe(1);
    lasting.announce([lasting.address]);
    // It may yet be back.
    expect(known()).toContain(dying.address);
    passMinute();
    lasting.announce([lasting.address]);
    await expect.poll(known).toEqual([lasting.address]);
  });

  it('dials a new replica after as many as it may dial have come and gone', async () => {
    const [dying, lasting, fresh] = [await replica(), await replica(), await replica()];
    const gone = Array.from({ length: REPLICAS_MAX }, (_, i) => `127.0.0.1:${i + 1}`);
    dying.announce([dying.address, lasting.address, ...gone]);
    const { links, known } = linksTo(dying.address);
    await expect.poll(() => [...links.ready()].length).toBe(2);
    expect(known()).toHaveLength(REPLICAS_MAX);
    dying.kill();
    await expect.poll(() => [...links.ready()].length).toBe(1);
    passMinute();
    lasting.announce([lasting.address, fresh.address]);
    await expect.poll(() => fresh.linked).toBe(true);
    expect(known()).toEqual([dying.address, lasting.address, fresh.address]);
  });
});
