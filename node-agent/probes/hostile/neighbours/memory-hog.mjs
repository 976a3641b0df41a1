/** Takes memory outside of V8's heap until the kernel ends it. */
export const handler = async () => {
  const all = [];
  for (;;) {
    all.push(Buffer.alloc(8 * 1024 * 1024, 1));
    await new Promise(setImmediate);
  }
};
