/** Results that are traps for whoever looks at them. */
import { writeSync } from 'node:fs';

const nested = (depth) => {
  let value = {};
  for (let level = 0; level < depth; level += 1) value = { value };
  return value;
};

const RESULTS = {
  'a promise that never settles': () => ({ then: () => {} }),
  'a then that throws': () => ({
    then: () => {
      throw new Error('from then');
    },
  }),
  'a then that is no function': () => ({ then: 1, ok: true }),
  'a then that settles twice': () => ({
    then: (resolve, reject) => {
      resolve('first');
      resolve('second');
      reject(new Error('third'));
    },
  }),
  'a getter that throws': () => ({
    get value() {
      throw new Error('from a getter');
    },
  }),
  'a getter that ends the process': () => ({
    get value() {
      return process.exit(3);
    },
  }),
  'a cycle': () => {
    const value = {};
    value.value = value;
    return value;
  },
  'a hundred thousand levels': () => nested(100_000),
  'a number without JSON': () => 1n,
  'a proxy that throws': () =>
    new Proxy(
      {},
      {
        get() {
          throw new Error('from a proxy');
        },
      },
    ),
  'a toJSON that never ends': () => ({
    toJSON: () => {
      for (;;);
    },
  }),
  'a toJSON without end of text': () => ({ toJSON: () => 'x'.repeat(8 * 1024 * 1024) }),
  'an error whose message is a trap': () => {
    const error = new Error('x');
    Object.defineProperty(error, 'message', {
      get() {
        throw new Error('from the message');
      },
    });
    throw error;
  },
  'a thrown proxy': () => {
    throw new Proxy(
      {},
      {
        get() {
          throw new Error('from what was thrown');
        },
        getPrototypeOf() {
          throw new Error('from its prototype');
        },
      },
    );
  },
  'a spoilt language': () => {
    Array.prototype.map =
      Object.keys =
      JSON.stringify =
      JSON.parse =
      Buffer.from =
      Buffer.concat =
        () => {
          throw new Error('spoilt');
        };
    globalThis.Promise = globalThis.Buffer = globalThis.process = undefined;
    return 'still here';
  },
  'text before the result': () => {
    writeSync(1, 'no end of line');
    return 'after';
  },
};

export const handler = async ({ result }) => RESULTS[result]();
