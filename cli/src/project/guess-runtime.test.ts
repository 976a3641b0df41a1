import { describe, expect, it } from 'vitest';
import { guessEntry } from './guess-runtime.js';

const guess = (files: string[], known = {}) => guessEntry(new Set(files), known, 'folder');

describe('the runtime of a folder', () => {
  it.each([
    [['index.mjs'], 'nodejs', 'index.handler'],
    [['index.js', 'handler.js'], 'nodejs', 'index.handler'],
    [['handler.cjs'], 'nodejs', 'handler.handler'],
    [['main.py', 'handler.py'], 'python', 'main.handler'],
    [['lambda_function.py'], 'python', 'lambda_function.lambda_handler'],
    [['bootstrap', 'lib/libx.so'], 'provided', 'bootstrap'],
  ])('is told by %j', (files, runtime, handler) => {
    expect(guess(files)).toEqual({ runtime, handler });
  });

  it('is told by the file that a given handler names', () => {
    expect(guess(['src/app.py'], { handler: 'src/app.run' })).toEqual({ runtime: 'python', handler: 'src/app.run' });
    expect(guess(['app.js'], { handler: 'app.api.run' })).toEqual({ runtime: 'nodejs', handler: 'app.api.run' });
  });

  it('is provided for a program, whatever its handler is called', () => {
    expect(guess(['bootstrap'], { handler: 'bootstrap' })).toEqual({ runtime: 'provided', handler: 'bootstrap' });
    expect(guess(['bootstrap'], { handler: 'my.handler' })).toEqual({ runtime: 'provided', handler: 'my.handler' });
    expect(guess(['bootstrap'], { runtime: 'provided.al2023' })).toEqual({
      runtime: 'provided.al2023',
      handler: 'bootstrap',
    });
    expect(() => guess(['bootstrap', 'main.py'])).toThrow('both main.py and bootstrap');
  });

  it('keeps what is given', () => {
    expect(guess([], { runtime: 'python3.11', handler: 'x.y' })).toEqual({ runtime: 'python3.11', handler: 'x.y' });
    expect(guess(['index.js', 'main.py'], { runtime: 'python3.11' })).toEqual({
      runtime: 'python3.11',
      handler: 'main.handler',
    });
  });

  it('is asked for when two languages are there, and when none is', () => {
    expect(() => guess(['index.js', 'main.py'])).toThrow('both index.js and main.py');
    expect(() => guess(['readme.md'])).toThrow('none of the files');
    expect(() => guess(['index.js'], { handler: 'app.run' })).toThrow('no file for the handler "app.run"');
  });
});
