import { FleetError } from '@lambda-fleet/common/errors';

export interface PathAndQuery {
  readonly path: string;
  /** Without the question mark. */
  readonly query: string;
}

/** `%2f`, `%5c`, `%00`, `//`, a backslash, and `.` and `..` as segments, encoded or not. */
const AMBIGUOUS = /%2f|%5c|%00|\/\/|\\|(?:^|\/)(?:\.|%2e){1,2}(?=\/|$)/i;

/**
 * Splits a request target. Paths that two programs could read differently are
 * refused: what a proxy allowed must be what the function sees.
 *
 * @throws FleetError `invalid_request`
 */
export function splitTarget(target: string): PathAndQuery {
  const at = target.indexOf('?');
  const path = at === -1 ? target : target.slice(0, at);
  if (!path.startsWith('/') || AMBIGUOUS.test(path)) {
    throw new FleetError(
      'invalid_request',
      'The path is ambiguous: it must start with "/" and not contain "//", "\\", "%2f", "%5c", "%00" or "." and ".." as segments.',
    );
  }
  return { path, query: at === -1 ? '' : target.slice(at + 1) };
}

/** The function and the rest of `/fn/<name>/<rest>`. */
export function splitFunctionPath({ path, query }: PathAndQuery): PathAndQuery & { readonly name: string } {
  const [, name = '', rest = '/'] = /^\/fn\/([^/]*)(\/.*)?$/.exec(path) ?? [];
  return { name, path: rest, query };
}
