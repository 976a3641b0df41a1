import { describe, expect, it } from 'vitest';
import { splitFunctionPath, splitTarget } from './function-path.js';

describe('a request target', () => {
  it.each([
    ['/', { path: '/', query: '' }],
    ['/a/b?x=1&y=%2f', { path: '/a/b', query: 'x=1&y=%2f' }],
    ['/a%20b/..c/.d/?', { path: '/a%20b/..c/.d/', query: '' }],
    ['/a?b?c', { path: '/a', query: 'b?c' }],
  ])('%s is split as it is', (target, expected) => {
    expect(splitTarget(target)).toEqual(expected);
  });

  it.each([
    'http://other/',
    '*',
    '',
    '//a',
    '/a//b',
    '/a%2fb',
    '/a%2Fb',
    '/a%5Cb',
    '/a%00',
    '/../a',
    '/a/..',
    '/a/./b',
    '/%2e%2e/a',
    '/a/%2E./b',
    '/a\\b',
  ])('%s is refused', (target) => {
    expect(() => splitTarget(target)).toThrow(expect.objectContaining({ code: 'invalid_request' }));
  });

  it.each([
    ['/fn/greet', 'greet', '/'],
    ['/fn/greet/', 'greet', '/'],
    ['/fn/greet/a/b', 'greet', '/a/b'],
    ['/fn/', '', '/'],
  ])('%s is the function %s at %s', (path, name, rest) => {
    expect(splitFunctionPath({ path, query: 'q' })).toEqual({ name, path: rest, query: 'q' });
  });
});
