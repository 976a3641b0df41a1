import type { UpOptions } from './fleet-options.js';

/** Where people and commands on this machine reach the control plane. */
export function endpointOf({ host, httpPort }: UpOptions): string {
  const isLocal = ['127.0.0.1', 'localhost', '0.0.0.0', '::', '::1'].includes(host);
  const name = isLocal ? 'localhost' : host.includes(':') ? `[${host}]` : host;
  return `http://${name}:${httpPort}`;
}
