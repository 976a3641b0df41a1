import { createHmac, timingSafeEqual } from 'node:crypto';

/** What a node says that it was given. */
export interface AttemptClaim {
  readonly invocationId: string;
  readonly epoch: number;
  readonly versionId: string;
  readonly functionId: string;
  readonly projectId: string;
  readonly grant?: Uint8Array | undefined;
}

const GRANT_BYTES = 16;

/**
 * Proves to every replica that a node was given an attempt: a message authentication code under a secret of the fleet, which
 * travels to the node with the attempt and comes back with its result and its log lines. Nothing has to be remembered for it.
 */
export class AttemptGrants {
  /** @param key the same for every replica */
  constructor(private readonly key: Buffer) {}

  grant(nodeId: string, claim: AttemptClaim): Buffer {
    const { invocationId, epoch, versionId, functionId, projectId } = claim;
    // None of these can hold the separator, or a claim that does has no grant.
    const text = [nodeId, invocationId, epoch, versionId, functionId, projectId].join('\n');
    return createHmac('sha256', this.key).update(text).digest().subarray(0, GRANT_BYTES);
  }

  isGranted(nodeId: string, claim: AttemptClaim): boolean {
    const { grant } = claim;
    return grant?.length === GRANT_BYTES && timingSafeEqual(grant, this.grant(nodeId, claim));
  }
}
