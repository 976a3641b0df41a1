import type { Database } from '../db/database.js';
import type { KeyClaim, UsedKey } from './idempotency-key.js';
import { claimKeys, usedKey, wantedKeys } from './key-statements.js';

/** `again`: another request was taking it at this moment. */
export type ClaimedKey =
  | { readonly kind: 'claimed' }
  | ({ readonly kind: 'used' } & UsedKey)
  | { readonly kind: 'again' };

/** Takes the keys that are free, in one statement, and says of each other one what it was used for. */
export async function claimRunningKeys(
  database: Database,
  claims: readonly KeyClaim[],
): Promise<readonly ClaimedKey[]> {
  const firsts = firstOfEachKey(claims);
  const rows = await database.run(
    'claim idempotency keys',
    (sql) => sql<(Partial<UsedKey> & { readonly asked: string; readonly claimed: boolean })[]>`
      with wanted as (${wantedKeys(sql, [...firsts.values()])}), ${claimKeys(sql, sql`wanted`, null)}
      select w.invocation_id as asked, w.invocation_id in (select invocation_id from claimed) as claimed, used.*
      from wanted w left join lateral (${usedKey(sql)}) used on true`,
  );
  const answers = new Map(rows.map(({ asked, claimed, ...used }) => [asked, answerOf(claimed, used)]));
  return claims.map((claim) => {
    const first = firsts.get(keyOf(claim)) ?? claim;
    const answer = answers.get(first.invocationId) ?? { kind: 'again' };
    if (first === claim || answer.kind !== 'claimed') return answer;
    // Two requests of one statement: the other one runs.
    const { requestHash, invocationId, runsMs } = first;
    const createdAt = new Date();
    return { kind: 'used', requestHash, invocationId, statusCode: null, createdAt, ageMs: 0, leftMs: runsMs };
  });
}

function answerOf(claimed: boolean, used: Partial<UsedKey>): ClaimedKey {
  if (claimed) return { kind: 'claimed' };
  const { invocationId } = used;
  return invocationId ? { kind: 'used', ...(used as UsedKey) } : { kind: 'again' };
}

/** A statement can write a key only once. */
export function firstOfEachKey<C extends KeyClaim>(claims: readonly C[]): ReadonlyMap<string, C> {
  const firsts = new Map<string, C>();
  for (const claim of claims) if (!firsts.has(keyOf(claim))) firsts.set(keyOf(claim), claim);
  return firsts;
}

export function keyOf({ projectId, scope, key }: KeyClaim): string {
  return JSON.stringify([projectId, scope, key]);
}
