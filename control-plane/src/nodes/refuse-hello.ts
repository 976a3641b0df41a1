import type { Hello } from '@lambda-fleet/proto';
import { areUuids } from './agent-claims.js';

const TEXT_MAX = 256;
/** Labels, runtimes, isolation kinds and networks of one node, each. */
const ENTRIES_MAX = 64;

/** Why a node may not join, for its log; undefined lets it in. */
export function refuseHello(hello: Hello, development: boolean): string | undefined {
  if (!isPlausible(hello)) return 'its Hello holds what no agent says of itself';
  if (development || !hello.isolation.includes('none')) return undefined;
  return 'not in development mode (LAMBDA_DEV=true), so no node that runs functions without isolation is taken';
}

/** What Hello says is stored, and shown, and one value that PostgreSQL cannot take would spoil statements about other nodes too. */
function isPlausible(hello: Hello): boolean {
  const { bootId, agentVersion, architecture, labels, runtimes, isolation, networks } = hello;
  const lists = [Object.keys(labels), runtimes, isolation, networks];
  const texts = [agentVersion, architecture, ...isolation, ...networks, ...Object.entries(labels).flat()];
  texts.push(...runtimes.flatMap(({ name, digest }) => [name, digest]));
  return areUuids([bootId]) && lists.every(({ length }) => length <= ENTRIES_MAX) && texts.every(isText);
}

/** Printable, and short enough to be listed. */
function isText(text: string): boolean {
  return text.length <= TEXT_MAX && !/\p{Cc}/u.test(text);
}
