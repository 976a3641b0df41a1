import { isIP } from 'node:net';
import { HOST_LABEL } from '@lambda-fleet/common/limits';

export interface HostRules {
  /** `<name>.<domain>` is the function `<name>`. Lower case, without port. */
  readonly domains: readonly string[];
  /** Further hosts, lower case and without port, that serve the API. */
  readonly apiHosts: readonly string[];
}

/** What a Host header stands for. */
export type HostTarget =
  | { readonly kind: 'api' }
  | { readonly kind: 'function'; readonly name: string; readonly domainName: string }
  | { readonly kind: 'unknown' };

const API: HostTarget = { kind: 'api' };
const UNKNOWN: HostTarget = { kind: 'unknown' };

/**
 * Hosts are an allow-list: a name that is not ours could be a page of somebody
 * else that a browser was made to send here (DNS rebinding).
 */
export function hostTarget(header: string | undefined, rules: HostRules): HostTarget {
  // HTTP/1.0 has no Host.
  if (header === undefined || header === '') return API;
  const parsed = /^(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::\d{1,5})?$/.exec(header.toLowerCase());
  const host = parsed?.[1]?.replace(/\.$/, '');
  if (host === undefined) return UNKNOWN;
  if (host === 'localhost' || host.startsWith('[') || isIP(host) !== 0) return API;
  if (rules.domains.includes(host) || rules.apiHosts.includes(host)) return API;
  for (const domain of rules.domains) {
    if (!host.endsWith(`.${domain}`)) continue;
    const name = host.slice(0, -domain.length - 1);
    if (HOST_LABEL.test(name)) return { kind: 'function', name, domainName: host };
  }
  return UNKNOWN;
}
