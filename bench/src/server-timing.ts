/** Durations of a `server-timing` header by name, milliseconds. Entries without a duration are left out. */
export function parseServerTiming(header: string): ReadonlyMap<string, number> {
  const durations = new Map<string, number>();
  for (const entry of header.split(',')) {
    const [name = '', ...parameters] = entry.split(';').map((part) => part.trim());
    const duration = parameters.map((parameter) => /^dur=([0-9.]+)$/.exec(parameter)?.[1]).find(Boolean);
    if (name !== '' && duration !== undefined) durations.set(name, Number(duration));
  }
  return durations;
}
