import { isUtf8 } from 'node:buffer';

/** A request as the gateway received it. */
export interface HttpEventInput {
  readonly method: string;
  readonly path: string;
  /** Without the question mark. */
  readonly query: string;
  /** Names and values in turn, as they came (`IncomingMessage.rawHeaders`). */
  readonly rawHeaders: readonly string[];
  /** Lower-case names of headers that the function does not get. */
  readonly withheld: ReadonlySet<string>;
  readonly body: Buffer;
  readonly functionName: string;
  /** The Host without port. */
  readonly domainName: string;
  readonly httpVersion: string;
  readonly sourceIp: string;
  readonly requestId: string;
  readonly timeEpoch: number;
}

/** They describe one connection and mean nothing behind it. */
const HOP_BY_HOP = new Set([
  'connection',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
]);

/** Set below, from what we know ourselves. */
const OWN = new Set(['x-forwarded-for', 'x-forwarded-proto', 'x-forwarded-port']);

const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];

/** The event of AWS's function URLs, payload format 2.0, as JSON bytes. */
export function httpEvent(input: HttpEventInput): Buffer {
  const { headers, cookies } = readHeaders(input);
  const parameters = readQuery(input.query);
  const text = isText(headers['content-type']) && isUtf8(input.body);
  const event = {
    version: '2.0',
    routeKey: '$default',
    rawPath: input.path,
    rawQueryString: input.query,
    ...(cookies.length > 0 ? { cookies } : {}),
    headers,
    ...(parameters === undefined ? {} : { queryStringParameters: parameters }),
    requestContext: {
      accountId: '000000000000',
      apiId: input.functionName,
      domainName: input.domainName,
      domainPrefix: input.domainName.split('.')[0],
      http: {
        method: input.method,
        path: input.path,
        protocol: `HTTP/${input.httpVersion}`,
        sourceIp: input.sourceIp,
        userAgent: headers['user-agent'] ?? '',
      },
      requestId: input.requestId,
      routeKey: '$default',
      stage: '$default',
      time: accessLogTime(new Date(input.timeEpoch)),
      timeEpoch: input.timeEpoch,
    },
    ...(input.body.length > 0 ? { body: input.body.toString(text ? 'utf8' : 'base64') } : {}),
    isBase64Encoded: input.body.length > 0 && !text,
  };
  return Buffer.from(JSON.stringify(event));
}

/** Lower-case names, repeated ones joined by commas, cookies apart. */
function readHeaders({ rawHeaders, withheld, sourceIp }: HttpEventInput) {
  const headers: Record<string, string> = Object.create(null);
  const cookies: string[] = [];
  const connectionNames = new Set<string>();
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    if (rawHeaders[i]?.toLowerCase() !== 'connection') continue;
    for (const name of rawHeaders[i + 1]?.split(',') ?? []) connectionNames.add(name.trim().toLowerCase());
  }
  let forwardedFor = '';
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    const name = rawHeaders[i]?.toLowerCase() ?? '';
    // Node gives header bytes as Latin-1.
    const value = rawHeaders[i + 1] ?? '';
    if (name === 'x-forwarded-for') forwardedFor += `${value}, `;
    if (HOP_BY_HOP.has(name) || connectionNames.has(name) || OWN.has(name) || withheld.has(name)) continue;
    if (name === 'cookie') {
      cookies.push(
        ...value
          .split(';')
          .map((cookie) => cookie.trim())
          .filter((cookie) => cookie !== ''),
      );
      continue;
    }
    headers[name] = headers[name] === undefined ? value : `${headers[name]},${value}`;
  }
  headers['x-forwarded-for'] = forwardedFor + sourceIp;
  headers['x-forwarded-proto'] = 'http';
  const port = /:(\d+)$/.exec(headers.host ?? '')?.[1];
  headers['x-forwarded-port'] = port ?? '80';
  return { headers, cookies };
}

/** Decoded, repeated ones joined by commas; undefined when there are none. */
function readQuery(query: string): Record<string, string> | undefined {
  if (query === '') return undefined;
  const parameters: Record<string, string> = Object.create(null);
  for (const [name, value] of new URLSearchParams(query)) {
    parameters[name] = parameters[name] === undefined ? value : `${parameters[name]},${value}`;
  }
  return parameters;
}

/** AWS's list; everything else, forms included, travels as base64. */
function isText(contentType: string | undefined): boolean {
  const type = (contentType ?? '').split(';')[0]?.trim().toLowerCase() ?? '';
  return /^(text\/.*|application\/(json|javascript|xml|.*\+json|.*\+xml))$/.test(type);
}

/** `12/Mar/2020:19:03:58 +0000` */
function accessLogTime(at: Date): string {
  const two = (value: number) => String(value).padStart(2, '0');
  const date = `${two(at.getUTCDate())}/${MONTHS[at.getUTCMonth()]}/${at.getUTCFullYear()}`;
  return `${date}:${two(at.getUTCHours())}:${two(at.getUTCMinutes())}:${two(at.getUTCSeconds())} +0000`;
}
