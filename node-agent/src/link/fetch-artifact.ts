import type { ArtifactChunk } from '@lambda-fleet/proto';
import type { FetchArtifact } from '../invocations/invocation.js';
import type { Link } from './link.js';

/** The layer of a large container image over a slow link. Whoever reads bounds the silence between two chunks. */
const FETCH_DEADLINE_MS = 15 * 60_000;

/** Fetches artifacts over the bulk connection of the link's session. */
export function fetchArtifactOver(link: Link): FetchArtifact {
  return async function* (sha256) {
    const session = link.readySession;
    if (session === undefined) throw new Error('the link to the control plane is down');
    const call = session.bulkClient.fetchArtifact({ sha256 }, { deadline: Date.now() + FETCH_DEADLINE_MS });
    try {
      for await (const chunk of call as AsyncIterable<ArtifactChunk>) yield chunk.data;
    } finally {
      call.cancel();
    }
  };
}
