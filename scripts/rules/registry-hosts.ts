import type { SourceFile } from './source-files.js';

/** Written in halves, so that this file does not break its own rule. */
const HOSTS = [
  ['registry.npmjs', 'org'],
  ['registry.yarnpkg', 'com'],
  ['registry-1.docker', 'io'],
  ['deb.debian', 'org'],
  ['security.debian', 'org'],
  ['snapshot.debian', 'org'],
  ['archive.ubuntu', 'com'],
  ['files.pythonhosted', 'org'],
  ['proxy.golang', 'org'],
].map((halves) => halves.join('.'));

/** A URL whose host is called a mirror or a registry, whosever it is. */
const MIRROR_URL = /https?:\/\/(?:[a-z0-9-]+\.)*(?:mirrors?|registry|artifactory|nexus)\.[a-z0-9.-]+/i;

/** Packages come from whatever registry or mirror the machine is set up for; a file that names one takes that choice away. */
export function registryHosts(files: readonly SourceFile[]): string[] {
  return files.flatMap(({ path, text }) => {
    const host = HOSTS.find((name) => text.includes(name)) ?? MIRROR_URL.exec(text)?.[0];
    return host === undefined ? [] : [`${path} names the package host ${host}`];
  });
}
