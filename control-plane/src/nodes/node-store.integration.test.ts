import type { Hello } from '@lambda-fleet/proto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startTestPostgres, type TestPostgres } from '../db/test-postgres.js';
import { NodeStore } from './node-store.js';

const hello = (agentVersion: string): Hello => ({
  protocolMin: 1,
  protocolMax: 1,
  agentVersion,
  bootId: 'b',
  labels: { zone: 'a' },
  runtimes: [{ name: 'nodejs', digest: 'sha256:1' }],
  isolation: ['runc'],
  architecture: 'x64',
  networks: ['none'],
  selfTest: [],
  builds: false,
  running: [],
  keptResults: [],
  capacity: undefined,
});

describe('NodeStore', () => {
  let postgres: TestPostgres;
  let store: NodeStore;
  beforeAll(async () => {
    postgres = await startTestPostgres();
    store = new NodeStore(postgres.database);
  });
  afterAll(() => postgres.close());

  it('records what a node says of itself, the last time counting', async () => {
    expect(await store.recordHello('node-1', hello('1'))).toEqual({ eligible: true });
    await store.recordHello('node-1', hello('2'));
    await store.recordHello('node-2', hello('1'));
    const nodes = await store.list();
    expect(nodes.map(({ id, agentVersion }) => [id, agentVersion])).toEqual([
      ['node-1', '2'],
      ['node-2', '1'],
    ]);
    expect(nodes[0]).toMatchObject({
      eligible: true,
      labels: { zone: 'a' },
      isolation: ['runc'],
      runtimes: [{ name: 'nodejs', digest: 'sha256:1' }],
      architecture: 'x64',
    });
  });

  it('says that a node was taken out of service, whatever the node says', async () => {
    await postgres.database.run('cordon', (sql) => sql`UPDATE nodes SET eligible = false WHERE id = 'node-2'`);
    expect(await store.recordHello('node-2', hello('3'))).toEqual({ eligible: false });
  });
});
