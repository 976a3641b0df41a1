import { hostname } from 'node:os';
import { join } from 'node:path';
import { errorText } from '@lambda-fleet/common/errors';
import { parseJoinToken } from '@lambda-fleet/common/join-token';
import type { Logger } from '@lambda-fleet/common/logger';
import type { Secret } from '@lambda-fleet/common/secret';
import { enroll } from './enroll.js';
import { Identity, type TlsFiles } from './identity.js';
import { IdentityFiles, type StoredIdentity } from './identity-files.js';

export interface OpenIdentityOptions {
  /** Given files are used as they are. */
  readonly tls: TlsFiles | undefined;
  readonly dataDir: string;
  readonly join: {
    readonly token: Secret | undefined;
    /** Undefined takes the id that it has, or one that is made of the host's name. */
    readonly nodeId: string | undefined;
    /** `host:port` of each control plane; tried in turn. */
    readonly addresses: readonly string[];
  };
  readonly log: Logger;
}

export interface OpenedIdentity {
  readonly identity: Identity;
  /** Where renewed certificates are kept; undefined for those that somebody else looks after. */
  readonly files: IdentityFiles | undefined;
}

/** Of a machine that has another certificate to go on with. */
const TRIES_MAX = 3;

/**
 * Finds out which node this machine is: by the files that were given, by what is in the data directory, or by a join token.
 *
 * @throws Error that says what to do when it is none
 */
export async function openIdentity({ tls, dataDir, join: asked, log }: OpenIdentityOptions): Promise<OpenedIdentity> {
  if (tls !== undefined) return { identity: new Identity(tls), files: undefined };
  const files = new IdentityFiles(join(dataDir, 'identity'));
  const stored = await files.load();
  const present = stored && new Identity(stored);
  const lapsed = present !== undefined && present.certificate.expiresAt <= Date.now();
  const token = asked.token?.reveal();
  const isNew = token !== undefined && (stored === undefined || parseJoinToken(token)?.id !== stored.tokenId);
  if (present !== undefined && !lapsed && !isNew) return { identity: checkName(present, asked.nodeId), files };
  if (token === undefined || !isNew) throw new Error(needsToken(present, token !== undefined));
  const nodeId = asked.nodeId ?? present?.nodeId ?? nodeIdOf(hostname());
  const mayStay = present !== undefined && !lapsed && present.nodeId === nodeId;
  const triesMax = mayStay ? TRIES_MAX : undefined;
  try {
    return {
      identity: await enrollAndKeep(files, { addresses: asked.addresses, token, nodeId, triesMax, log }),
      files,
    };
  } catch (err) {
    if (!mayStay) throw err;
    // It may have been told the wrong token; what it has still counts.
    log.error({ reason: errorText(err), node: present.nodeId }, 'new_join_token_not_taken');
    return { identity: present, files };
  }
}

async function enrollAndKeep(files: IdentityFiles, options: Parameters<typeof enroll>[0]): Promise<Identity> {
  const joined: StoredIdentity = await enroll(options);
  await files.saveJoined(joined);
  const identity = new Identity(joined);
  options.log.info({ node: identity.nodeId, expiresAt: expiry(identity) }, 'fleet_joined');
  return identity;
}

/** `Build-Server_7.example.org` → `build-server-7.example.org` */
export function nodeIdOf(host: string): string {
  const id = host
    .toLowerCase()
    .replaceAll(/[^a-z0-9.-]+/g, '-')
    .replace(/^[.-]+/, '')
    .slice(0, 63);
  return id === '' ? 'node' : id;
}

/** A machine does not become another node by a changed variable. */
function checkName(present: Identity, asked: string | undefined): Identity {
  if (asked === undefined || asked === present.nodeId) return present;
  throw new Error(
    `This machine is the node ${present.nodeId}, and LAMBDA_NODE_ID says ${asked}. Correct it, or let the machine join as ${asked} with a new token of \`lambda node join-token\`.`,
  );
}

function needsToken(present: Identity | undefined, wasUsed: boolean): string {
  const used = wasUsed ? ' The one in LAMBDA_JOIN_TOKEN was used for it.' : '';
  if (present === undefined) {
    return 'This machine is no node of a fleet yet. Make a join token with `lambda node join-token` and start the agent with it in LAMBDA_JOIN_TOKEN (or give LAMBDA_TLS_CA, LAMBDA_TLS_CERT and LAMBDA_TLS_KEY).';
  }
  const { nodeId } = present;
  return `The certificate of ${nodeId} expired at ${expiry(present)}, by the clock of this machine.${used} Make a new join token with \`lambda node join-token --node ${nodeId}\` and start the agent with it in LAMBDA_JOIN_TOKEN.`;
}

const expiry = ({ certificate }: Identity): string => new Date(certificate.expiresAt).toISOString();
