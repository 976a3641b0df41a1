import { NODE_ID } from '@lambda-fleet/common/certificates/node-certificate';
import { describe, expect, it } from 'vitest';
import { nodeIdOf } from './open-identity.js';

describe('nodeIdOf', () => {
  it.each([
    ['Build-Server_7.example.org', 'build-server-7.example.org'],
    ['--x', 'x'],
    ['…', 'node'],
    ['a'.repeat(100), 'a'.repeat(63)],
  ])('makes an id of the host name %j', (host, id) => {
    expect(nodeIdOf(host)).toBe(id);
    expect(id).toMatch(NODE_ID);
  });
});
