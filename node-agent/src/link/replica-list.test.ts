import { createLogger } from '@lambda-fleet/common/logger';
import { afterEach, describe, expect, it } from 'vitest';
import { parseAddress, REPLICAS_MAX, ReplicaList } from './replica-list.js';

const lists: ReplicaList[] = [];
afterEach(() => {
  for (const list of lists.splice(0)) list.close();
});

/** @param names what each name stands for; may be changed */
async function listOf(configured: string[], names: Record<string, string[]> = {}) {
  const resolve = async (host: string) => {
    const found = names[host];
    if (found === undefined) throw new Error('no such name');
    return found;
  };
  const list = new ReplicaList({ configured, resolve, onChange: () => {}, log: createLogger('test', 'silent') });
  lists.push(list);
  await list.start();
  return { list, addresses: () => list.current().map(({ address }) => address) };
}

describe('ReplicaList', () => {
  it('takes each address of a name for a replica, whose certificate is that of the name', async () => {
    const { list } = await listOf(['fleet.test:7070'], { 'fleet.test': ['10.0.0.2', '10.0.0.1'] });
    expect(list.current()).toEqual([
      { address: '10.0.0.1:7070', serverName: 'fleet.test' },
      { address: '10.0.0.2:7070', serverName: 'fleet.test' },
    ]);
  });

  it('dials a name as it is when it stands for one machine, or cannot be resolved', async () => {
    const { list } = await listOf(['one.test:1', 'none.test:2', '127.0.0.1:3'], { 'one.test': ['10.0.0.1', '::1'] });
    expect(list.current()).toEqual([
      { address: 'one.test:1', serverName: undefined },
      { address: 'none.test:2', serverName: undefined },
      { address: '127.0.0.1:3', serverName: undefined },
    ]);
  });

  it('adds what replicas announce, after what was configured, and never more than it may dial', async () => {
    const { list, addresses } = await listOf(['a.test:1']);
    const one = {};
    list.announce(one, ['b.test:1', 'a.test:1', 'not an address', '']);
    expect(addresses()).toEqual(['a.test:1', 'b.test:1']);
    list.announce(
      {},
      Array.from({ length: 100 }, (_, i) => `flood-${i}.test:1`),
    );
    expect(addresses()).toHaveLength(REPLICAS_MAX);
    expect(addresses().slice(0, 2)).toEqual(['a.test:1', 'b.test:1']);
    list.forget(one);
    expect(addresses()).not.toContain('b.test:1');
  });

  it('goes on with what a name stood for while it cannot be resolved', async () => {
    const names: Record<string, string[]> = { 'fleet.test': ['10.0.0.1', '10.0.0.2'] };
    const { list, addresses } = await listOf(['fleet.test:1'], names);
    delete names['fleet.test'];
    list.announce({}, []);
    await Promise.resolve();
    expect(addresses()).toEqual(['10.0.0.1:1', '10.0.0.2:1']);
  });

  it.each(['host', 'host:0', 'host:65536', 'ho st:1', 'http://host:1', ':1', '::1:1', '[::1]'])(
    'refuses %j',
    (text) => {
      expect(parseAddress(text)).toBeUndefined();
    },
  );

  it('knows IPv6 addresses', () => {
    expect(parseAddress('[::1]:7070')).toEqual({ host: '::1', port: 7070 });
  });
});
