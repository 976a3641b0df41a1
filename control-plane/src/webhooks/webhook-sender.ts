import { lookup as resolveName } from 'node:dns/promises';
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { isIP, type LookupFunction } from 'node:net';
import { errorText, FleetError } from '@lambda-fleet/common/errors';
import type { AddressPolicy } from './address-policy.js';

export interface WebhookAnswer {
  readonly status: number;
}

const DEADLINE_MS = 10_000;
/** What is read of an answer: nobody looks at it, but a connection that is read to its end closes cleanly. */
const ANSWER_BYTES_MAX = 64 * 1024;
const URL_LENGTH_MAX = 2_048;

/**
 * Sends webhooks to where they may go: a name is resolved, every address that it has is checked, and the connection is made to
 * the one that was checked, so that a name cannot mean one thing to the check and another one to the connection. Redirects
 * are not followed.
 */
export class WebhookSender {
  constructor(private readonly policy: AddressPolicy) {}

  /**
   * The URL, if a webhook may go there now.
   *
   * @throws FleetError `invalid_request`
   */
  async check(text: string, field: string): Promise<URL> {
    const refuse = (why: string): never => {
      throw new FleetError('invalid_request', `${field} ${why}`, { field });
    };
    const url = URL.canParse(text) && text.length <= URL_LENGTH_MAX ? new URL(text) : refuse('must be a URL.');
    if (url.protocol !== 'http:' && url.protocol !== 'https:') refuse('must be an http:// or https:// URL.');
    if (url.username !== '' || url.password !== '') refuse('must not hold a user name or password.');
    url.hash = '';
    try {
      await this.#addressOf(url);
    } catch (err) {
      refuse(`cannot be sent to: ${errorText(err)}.`);
    }
    return url;
  }

  /** Posts JSON. @throws Error when it may not be sent or nobody answered */
  async post(
    text: string,
    body: Buffer,
    headers: Readonly<Record<string, string>>,
    signal: AbortSignal,
  ): Promise<WebhookAnswer> {
    const url = new URL(text);
    const address = await this.#addressOf(url);
    const pinned: LookupFunction = (_host, options, done) => {
      const family = isIP(address);
      if (options.all) done(null, [{ address, family }]);
      else done(null, address, family);
    };
    const request = url.protocol === 'https:' ? httpsRequest : httpRequest;
    return await new Promise((resolve, reject) => {
      const deadline = AbortSignal.any([signal, AbortSignal.timeout(DEADLINE_MS)]);
      const outgoing = request(url, {
        method: 'POST',
        agent: false,
        lookup: pinned,
        signal: deadline,
        headers: { 'content-type': 'application/json', 'content-length': body.length, ...headers },
      });
      outgoing.on('error', reject).on('response', (answer) => {
        drain(answer);
        resolve({ status: answer.statusCode ?? 0 });
      });
      outgoing.end(body);
    });
  }

  /** @throws Error */
  async #addressOf(url: URL): Promise<string> {
    const host = url.hostname.replace(/^\[|\]$/g, '');
    const addresses =
      isIP(host) === 0 ? (await resolveName(host, { all: true })).map((found) => found.address) : [host];
    for (const address of addresses) {
      if (!this.policy.permits(address)) throw new Error(`${host} is ${address}, which is not a public address`);
    }
    const [first] = addresses;
    if (first === undefined) throw new Error(`${host} has no address`);
    return first;
  }
}

function drain(answer: IncomingMessage): void {
  let read = 0;
  answer.on('data', (chunk: Buffer) => {
    read += chunk.length;
    if (read > ANSWER_BYTES_MAX) answer.destroy();
  });
  answer.on('error', () => undefined);
}
