import { expect, test } from 'vitest';
import { Budget } from './budget.js';

const amount = (memoryBytes: number) => ({ memoryBytes, slots: 1 });

test('a promise that is withdrawn can be made again before its place is free', async () => {
  const budget = new Budget({ memoryBytes: 100, slots: 2 });
  budget.promise(amount(80));
  await budget.occupy(amount(80), 1000);
  expect(budget.fits(amount(30))).toBe(false);
  budget.withdraw(amount(80));
  expect(budget.fits(amount(30))).toBe(true);
  budget.promise(amount(30));
  let entered = false;
  const waiting = budget.occupy(amount(30), 1000).then(() => {
    entered = true;
  });
  await new Promise((resolve) => setImmediate(resolve));
  expect(entered).toBe(false);
  budget.vacate(amount(80));
  await waiting;
});

test('waiters enter in order, a small one never before a large one', async () => {
  const budget = new Budget({ memoryBytes: 100, slots: 10 });
  await budget.occupy(amount(90), 1000);
  const order: string[] = [];
  const large = budget.occupy(amount(50), 1000).then(() => order.push('large'));
  const small = budget.occupy(amount(5), 1000).then(() => order.push('small'));
  budget.vacate(amount(90));
  await Promise.all([large, small]);
  expect(order).toEqual(['large', 'small']);
});

test('a waiter that gives up makes way for the next', async () => {
  const budget = new Budget({ memoryBytes: 100, slots: 10 });
  await budget.occupy(amount(60), 1000);
  const tooLarge = budget.occupy(amount(90), 5);
  const fits = budget.occupy(amount(40), 1000);
  await expect(tooLarge).rejects.toThrow(/longer than 5 ms/);
  await fits;
});

test('slots count beside memory', () => {
  const budget = new Budget({ memoryBytes: 100, slots: 1 });
  budget.promise(amount(1));
  expect(budget.fits(amount(1))).toBe(false);
});
