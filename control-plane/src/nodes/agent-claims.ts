/** Checks of what agents say before it is stored: a stolen one may say anything, and one bad value would spoil a whole batch. */

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** The year 2200: later times are lies, and the largest of them cannot even be formatted. */
const LATEST_UNIX_MS = Date.UTC(2200, 0);

export function areUuids(ids: readonly string[]): boolean {
  return ids.every((id) => UUID.test(id));
}

export function isPlausibleTime(unixMs: number): boolean {
  return unixMs < LATEST_UNIX_MS;
}
