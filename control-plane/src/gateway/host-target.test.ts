import { describe, expect, it } from 'vitest';
import { hostTarget } from './host-target.js';

const rules = { domains: ['localhost', 'fn.example.org'], apiHosts: ['api.example.org'] };

describe('a Host header', () => {
  it.each([
    [undefined, 'api'],
    ['', 'api'],
    ['localhost', 'api'],
    ['LOCALHOST:8080', 'api'],
    ['localhost.:8080', 'api'],
    ['127.0.0.1:8080', 'api'],
    ['[::1]:8080', 'api'],
    ['10.1.2.3', 'api'],
    ['fn.example.org', 'api'],
    ['api.example.org:443', 'api'],
    ['evil.example.com', 'unknown'],
    ['localhost.evil.com', 'unknown'],
    ['a.b.localhost', 'unknown'],
    ['a--b.localhost', 'unknown'],
    ['-a.localhost', 'unknown'],
    ['a_b.localhost', 'unknown'],
    ['.localhost', 'unknown'],
    ['greet.localhost:8080:1', 'unknown'],
    ['greet.localhost, other', 'unknown'],
    ['greet@localhost', 'unknown'],
  ])('%s is %s', (header, kind) => {
    expect(hostTarget(header, rules).kind).toBe(kind);
  });

  it.each(['greet.localhost', 'Greet.LocalHost:8080', 'greet.localhost.', 'greet.fn.example.org:80'])(
    '%s is the function greet',
    (header) => {
      expect(hostTarget(header, rules)).toMatchObject({ kind: 'function', name: 'greet' });
    },
  );
});
