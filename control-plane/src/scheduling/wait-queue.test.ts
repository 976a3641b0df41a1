import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { WaitQueue } from './wait-queue.js';

function queueWithRoom() {
  const state = { room: 0, given: [] as string[], back: 0 };
  const queue = new WaitQueue<string>({ perLaneMax: 3, totalMax: 5 }, () => {
    state.back += 1;
    state.room += 1;
  });
  const wait = (lane: string, name: string, waitMs = 10_000) =>
    queue.wait(lane, waitMs, () => {
      if (state.room === 0) return undefined;
      state.room -= 1;
      state.given.push(name);
      return name;
    });
  const free = async (places: number) => {
    state.room += places;
    queue.pump();
    await turn();
  };
  return { state, queue, wait, free };
}

describe('WaitQueue', () => {
  it('serves lanes in turn, so that a flood of one function does not starve another', async () => {
    const { state, wait, free } = queueWithRoom();
    const all = [
      wait('flood', 'f1'),
      wait('flood', 'f2'),
      wait('flood', 'f3'),
      wait('quiet', 'q1'),
      wait('quiet', 'q2'),
    ];
    for (let i = 0; i < 5; i += 1) await free(1);
    await Promise.all(all);
    expect(state.given).toEqual(['f1', 'q1', 'f2', 'q2', 'f3']);
  });

  it('refuses the waiter that is one too many, of its lane or of all', async () => {
    const { wait, free } = queueWithRoom();
    const waiting = [wait('a', '1'), wait('a', '2'), wait('a', '3')];
    expect(await wait('a', '4')).toBe('full');
    waiting.push(wait('b', '5'), wait('b', '6'));
    expect(await wait('c', '7')).toBe('full');
    await free(5);
    expect(await Promise.all(waiting)).toEqual(['1', '2', '3', '5', '6']);
  });

  it('expires a waiter at its deadline and gives its place to the next', async () => {
    const { queue, wait, free } = queueWithRoom();
    const first = wait('a', '1', 5);
    const second = wait('a', '2');
    expect(await first).toBe('expired');
    expect(queue.size).toBe(1);
    await free(1);
    expect(await second).toBe('2');
    expect(queue.size).toBe(0);
  });

  it('gives back a place that was found for a waiter that expired meanwhile', async () => {
    let found: (place: string) => void = () => {};
    const back: string[] = [];
    const queue = new WaitQueue<string>({ perLaneMax: 3, totalMax: 5 }, (place) => back.push(place));
    const waiting = queue.wait('a', 5, () => new Promise<string>((resolve) => (found = resolve)));
    queue.pump();
    expect(await waiting).toBe('expired');
    found('late');
    await turn();
    expect(back).toEqual(['late']);
  });

  it('passes over a lane whose first waiter finds no place', async () => {
    const queue = new WaitQueue<string>({ perLaneMax: 3, totalMax: 5 }, () => {});
    const large = queue.wait('large', 20, () => undefined);
    const small = queue.wait('small', 10_000, () => 'placed');
    queue.pump();
    expect(await small).toBe('placed');
    expect(await large).toBe('expired');
  });

  it('asks no more of ten thousand lanes than those that it can serve and a few in vain', async () => {
    let room = 0;
    let asked = 0;
    const queue = new WaitQueue<string>({ perLaneMax: 1, totalMax: 10_000 }, () => {});
    const waiting = Array.from({ length: 10_000 }, (_, lane) =>
      queue.wait(`lane ${lane}`, 600_000, () => {
        asked += 1;
        if (room === 0) return undefined;
        room -= 1;
        return 'placed';
      }),
    );
    for (let round = 0; round < 1_000; round += 1) {
      room += 10;
      queue.pump();
      await turn();
    }
    expect(await Promise.all(waiting)).toHaveLength(10_000);
    expect(asked).toBeLessThanOrEqual(10_000 + 1_000 * 16);
  });

  it('comes to a lane that can be served however many before it cannot', async () => {
    const queue = new WaitQueue<string>({ perLaneMax: 1, totalMax: 1_000 }, () => {});
    const stuck = Array.from({ length: 100 }, (_, lane) => queue.wait(`stuck ${lane}`, 600_000, () => undefined));
    const behind = queue.wait('behind', 600_000, () => 'placed');
    let done = false;
    void behind.then(() => (done = true));
    for (let pumps = 0; pumps < 8 && !done; pumps += 1) {
      queue.pump();
      await turn();
    }
    expect(done).toBe(true);
    expect(queue.size).toBe(stuck.length);
  });
});
