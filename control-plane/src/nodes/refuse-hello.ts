import type { Hello } from '@lambda-fleet/proto';

/** Why a node may not join, for its log; undefined lets it in. */
export function refuseHello({ isolation }: Hello, development: boolean): string | undefined {
  if (development || !isolation.includes('none')) return undefined;
  return 'not in development mode (LAMBDA_DEV=true), so no node that runs functions without isolation is taken';
}
