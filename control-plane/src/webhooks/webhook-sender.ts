import { request as httpRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { isIP, type LookupFunction } from 'node:net';
import { errorText, FleetError } from '@lambda-fleet/common/errors';
import type { AddressPolicy } from './address-policy.js';
import { HostAddresses } from './host-addresses.js';

export interface WebhookAnswer {
  readonly status: number;
}

/** Of a whole delivery: finding the address, connecting, sending, and the answer. */
const DEADLINE_MS = 10_000;
/** What is read of an answer: nobody looks at it, but a connection that is read to its end closes cleanly. The deadline ends it too. */
const ANSWER_BYTES_MAX = 64 * 1024;
const URL_LENGTH_MAX = 2_048;

/**
 * Sends webhooks to where they may go: a name is resolved, every address that it has is checked, and the connection is made to
 * one of those that were checked, so that a name cannot mean one thing to the check and another one to the connection. Redirects
 * are not followed.
 */
export class WebhookSender {
  constructor(
    private readonly policy: AddressPolicy,
    private readonly hosts = new HostAddresses(),
    private readonly deadlineMs = DEADLINE_MS,
  ) {}

  /**
   * The URL, if a webhook may go there now.
   *
   * @throws FleetError `invalid_request`
   */
  async check(text: string, field: string): Promise<URL> {
    const refuse = (why: string): never => {
      throw new FleetError('invalid_request', `${field} ${why}`, { field });
    };
    if (text.length > URL_LENGTH_MAX) refuse(`has more than ${URL_LENGTH_MAX} characters.`);
    const url = URL.canParse(text) ? new URL(text) : refuse('must be a URL.');
    if (url.protocol !== 'http:' && url.protocol !== 'https:') refuse('must be an http:// or https:// URL.');
    if (url.username !== '' || url.password !== '') refuse('must not hold a user name or password.');
    url.hash = '';
    try {
      await this.#addressesOf(url, AbortSignal.timeout(this.deadlineMs));
    } catch (err) {
      refuse(`cannot be sent to: ${this.#reason(err)}.`);
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
    const deadline = AbortSignal.any([signal, AbortSignal.timeout(this.deadlineMs)]);
    try {
      const addresses = await this.#addressesOf(url, deadline);
      return { status: await send(url, body, headers, pinnedTo(addresses), deadline) };
    } catch (err) {
      throw new Error(this.#reason(deadline.aborted ? deadline.reason : err), { cause: err });
    }
  }

  /** @throws Error */
  async #addressesOf(url: URL, signal: AbortSignal): Promise<readonly string[]> {
    const addresses = await this.hosts.of(url.hostname, signal);
    if (addresses.every((address) => this.policy.permits(address))) return addresses;
    // Without the address: what a private name server says is nobody's business.
    throw new Error(
      `${url.hostname} leads to what is not a public address. An operator lets networks in with LAMBDA_WEBHOOK_NETWORKS`,
    );
  }

  #reason(err: unknown): string {
    if (err instanceof Error && err.name === 'TimeoutError') return `no answer within ${this.deadlineMs / 1_000} s`;
    if (err instanceof Error && err.name === 'AbortError') return 'it was stopped';
    // Of several addresses that were tried.
    if (err instanceof AggregateError) return err.errors.map(errorText).join(', ');
    return errorText(err);
  }
}

/** Answers with what was checked, whatever the name may mean by now. */
function pinnedTo(addresses: readonly string[]): LookupFunction {
  const all = addresses.map((address) => ({ address, family: isIP(address) }));
  const [first = { address: '', family: 0 }] = all;
  return (_host, options, done) => {
    if (options.all) done(null, all);
    else done(null, first.address, first.family);
  };
}

function send(
  url: URL,
  body: Buffer,
  headers: Readonly<Record<string, string>>,
  lookup: LookupFunction,
  signal: AbortSignal,
): Promise<number> {
  const request = url.protocol === 'https:' ? httpsRequest : httpRequest;
  return new Promise((resolve, reject) => {
    const outgoing = request(url, {
      method: 'POST',
      agent: false,
      lookup,
      signal,
      headers: { 'content-type': 'application/json', 'content-length': body.length, ...headers },
    });
    outgoing.on('error', reject).on('response', (answer) => {
      drain(answer);
      resolve(answer.statusCode ?? 0);
    });
    // An answer that changes the protocol (101) ends without an error and without a response.
    outgoing.on('close', () => reject(new Error('it closed the connection without an answer')));
    outgoing.end(body);
  });
}

function drain(answer: IncomingMessage): void {
  let read = 0;
  answer.on('data', (chunk: Buffer) => {
    read += chunk.length;
    if (read > ANSWER_BYTES_MAX) answer.destroy();
  });
  answer.on('error', () => undefined);
}
