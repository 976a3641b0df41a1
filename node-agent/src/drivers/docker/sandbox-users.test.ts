import { SANDBOX_USER_FIRST, SANDBOX_USERS } from '@lambda-fleet/common/sandbox-users';
import { expect, test } from 'vitest';
import { SandboxUsers } from './sandbox-users.js';

const take = (users: SandboxUsers, count: number) => Array.from({ length: count }, () => users.take());

test('no two sandboxes have the same user while there are enough', () => {
  const users = new SandboxUsers('ffffffffffffffff');
  const taken = new Set(take(users, SANDBOX_USERS));
  expect(taken.size).toBe(SANDBOX_USERS);
  expect(Math.min(...taken)).toBe(SANDBOX_USER_FIRST);
  expect(Math.max(...taken)).toBe(SANDBOX_USER_FIRST + SANDBOX_USERS - 1);
});

test('a user that was given back is the last to be taken again', () => {
  const users = new SandboxUsers('0123456789abcdef');
  const [first = 0] = take(users, 2);
  users.giveBack(first);
  const rest = take(users, SANDBOX_USERS - 1);
  expect(rest.indexOf(first)).toBe(rest.length - 1);
});

test('when all are taken, there still is one', () => {
  const users = new SandboxUsers('0000000000000000');
  take(users, SANDBOX_USERS);
  expect(users.take()).toBeGreaterThanOrEqual(SANDBOX_USER_FIRST);
});
