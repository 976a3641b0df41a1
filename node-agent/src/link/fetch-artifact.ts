import { type ServiceError, status } from '@grpc/grpc-js';
import type { ArtifactChunk } from '@lambda-fleet/proto';
import type { FetchArtifact } from '../invocations/invocation.js';
import type { AgentLinks } from './agent-links.js';
import type { Link } from './link.js';

/** The layer of a large container image over a slow link. Whoever reads bounds the silence between two chunks. */
const FETCH_DEADLINE_MS = 15 * 60_000;

/**
 * Fetches artifacts over the bulk connections of the links: from a replica that told of the artifact, or else from any that
 * has it to give.
 */
export function fetchArtifactOver(links: AgentLinks): FetchArtifact {
  return async function* (sha256) {
    const ready = [...links.ready()].sort((a, b) => Number(b.toldOf(sha256)) - Number(a.toldOf(sha256)));
    let failure: unknown = new Error('no link to the control plane is up');
    for (const link of ready) {
      let begun = false;
      try {
        for await (const data of fetchOver(link, sha256)) {
          begun = true;
          yield data;
        }
        return;
      } catch (err) {
        // Half of it is no good beside another's half.
        if (begun || !isElsewhere(err)) throw err;
        failure = err;
      }
    }
    throw failure;
  };
}

async function* fetchOver(link: Link, sha256: string): AsyncGenerator<Uint8Array> {
  const session = link.readySession;
  if (session === undefined) throw new Error('the link to the control plane is down');
  const call = session.bulkClient.fetchArtifact({ sha256 }, { deadline: Date.now() + FETCH_DEADLINE_MS });
  try {
    for await (const chunk of call as AsyncIterable<ArtifactChunk>) yield chunk.data;
  } finally {
    call.cancel();
  }
}

/** Whether another replica may have it. */
function isElsewhere(err: unknown): boolean {
  const { code } = err as Partial<ServiceError>;
  return code === status.NOT_FOUND || code === status.UNAVAILABLE || code === status.CANCELLED;
}
