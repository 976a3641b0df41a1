/** Takes memory inside of V8's heap until V8 gives up. */
export const handler = () => {
  const all = [];
  for (;;) all.push({ more: [] });
};
