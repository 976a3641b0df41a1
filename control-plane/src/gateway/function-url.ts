import { HOST_LABEL } from '@lambda-fleet/common/limits';

export interface FunctionUrlOptions {
  /** Of the gateway, as in {@link HostRules}. */
  readonly domain: string;
  /** Where the API is reached, for functions whose name is no host name. Without a final slash. */
  readonly apiUrl: string;
}

/** The address under which a function answers HTTP requests. */
export function functionUrl(name: string, { domain, apiUrl }: FunctionUrlOptions): string {
  if (!HOST_LABEL.test(name)) return `${apiUrl}/fn/${name}/`;
  const url = new URL(apiUrl);
  return `${url.protocol}//${name}.${domain}${url.port === '' ? '' : `:${url.port}`}/`;
}
