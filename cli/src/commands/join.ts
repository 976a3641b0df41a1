import { segment } from '../api/client.js';
import type { OutputFormat } from '../arguments.js';
import { confirm } from '../confirm.js';
import type { ServerFlags } from '../find-server.js';
import type { Session } from '../session.js';
import { printable } from '../terminal-text.js';

export interface JoinTokenOptions extends ServerFlags {
  readonly node?: string;
  /** Minutes. */
  readonly expires: number;
  readonly output: OutputFormat;
}

export interface RemoveNodesOptions extends ServerFlags {
  readonly yes?: boolean;
}

interface JoinToken {
  readonly id: string;
  readonly token: string;
  readonly expiresAt: string;
  readonly controlPlanePort: number;
  readonly enrollPort: number;
}

/** Prints the token on standard output, and on standard error what to start the agent with. */
export async function createJoinToken(session: Session, options: JoinTokenOptions): Promise<void> {
  const client = session.connect(options);
  const { node: nodeId, expires: expiresInMinutes, output: format } = options;
  const created = await client.json({
    method: 'POST',
    path: '/api/join-tokens',
    headers: { 'content-type': 'application/json' },
    body: Buffer.from(JSON.stringify({ expiresInMinutes, ...(nodeId === undefined ? {} : { nodeId }) })),
  });
  if (!isJoinToken(created)) throw client.notOurs();
  const { output } = session;
  if (format === 'json') return await output.data(`${JSON.stringify(created, null, 2)}\n`);
  if (format === 'name') return await output.data(`${printable(created.id)}\n`);
  const { token, expiresAt, controlPlanePort, enrollPort } = created;
  await output.data(`${printable(token)}\n`);
  const host = client.endpoint.hostname;
  output.note(
    [
      `Works once, until ${printable(expiresAt)}${nodeId === undefined ? '' : `, for ${nodeId} only`}. Start the agent with:`,
      `  LAMBDA_CONTROL_PLANE=${host}:${controlPlanePort}`,
      `  LAMBDA_ENROLL_ADDRESS=${host}:${enrollPort}`,
      ...(nodeId === undefined ? [] : [`  LAMBDA_NODE_ID=${nodeId}`]),
      `  LAMBDA_JOIN_TOKEN=${printable(token)}`,
    ].join('\n'),
  );
}

export async function removeNodes(
  session: Session,
  ids: readonly string[],
  options: RemoveNodesOptions,
): Promise<void> {
  const client = session.connect(options);
  if (options.yes !== true && process.stdin.isTTY && process.stderr.isTTY) {
    await confirm(
      `Remove ${ids.join(', ')}? What runs there is given up, and a new join token is needed to come back.`,
      'Nothing was removed.',
    );
  }
  for (const id of ids) {
    await client.json({ method: 'DELETE', path: `/api/nodes/${segment(id)}` });
    session.output.note(`Removed ${id}.`);
  }
}

function isJoinToken(value: unknown): value is JoinToken {
  if (typeof value !== 'object' || value === null) return false;
  const { id, token, expiresAt, controlPlanePort, enrollPort } = value as Partial<JoinToken>;
  const texts = [id, token, expiresAt].every((text) => typeof text === 'string');
  return texts && [controlPlanePort, enrollPort].every((port) => Number.isInteger(port));
}
