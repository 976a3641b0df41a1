import { setTimeout as sleep } from 'node:timers/promises';
import { FleetError } from '@lambda-fleet/common/errors';
import { type Build, type BuildEnd, BuildOutcome } from '@lambda-fleet/proto';
import type { NodeRegistry } from '../nodes/node-registry.js';
import type { NodeSession } from '../nodes/node-session.js';
import type { BuildLog } from './build-log.js';

/** A build waits this long for a node that builds something else. */
const QUEUE_MS = 10 * 60_000;
/** And this long when no node builds at all: one may just be connecting again. */
const NO_BUILDER_MS = 15_000;
const ASK_AGAIN_MS = 1_000;
/** The agent's own limit comes first; this is for one that does not keep it. */
const BUILD_MS_MAX = 60 * 60_000;
/** From asking an agent to cancel until it is not waited for any longer. */
const CANCEL_GRACE_MS = 20_000;

export interface NodeBuild {
  readonly projectId: string;
  readonly build: Build;
  readonly log: BuildLog;
  /** Aborted when somebody wants the build cancelled. */
  readonly cancelled: AbortSignal;
  /** A node took the build. Never rejects. */
  readonly onGiven: (nodeId: string) => Promise<void>;
}

export interface NodeBuildEnd {
  readonly end: BuildEnd;
  readonly nodeId: string;
}

/** The build was cancelled; nothing of it is running any more. */
export class BuildCancelled extends Error {
  override readonly name = 'BuildCancelled';
}

/**
 * Gives the build to nodes that build, the least busy first, until one takes it, and waits for its end. It is given away
 * once: a node that is lost with it may have done anything.
 *
 * @throws FleetError `not_started` when no node took it, `unavailable` when the node was lost
 * @throws BuildCancelled
 */
export async function buildOnNode(registry: NodeRegistry, request: NodeBuild): Promise<NodeBuildEnd> {
  const { build, log, cancelled } = request;
  const since = performance.now();
  let refusal = '';
  let saidWaiting = false;
  for (;;) {
    if (cancelled.aborted) throw new BuildCancelled();
    const builders = buildersOf(registry);
    for (const session of builders) {
      const end = await giveTo(session, request);
      if (end.outcome !== BuildOutcome.REFUSED) return { end, nodeId: session.nodeId };
      refusal = end.detail;
      if (cancelled.aborted) throw new BuildCancelled();
    }
    const waitedMs = performance.now() - since;
    if (waitedMs > (builders.length === 0 ? NO_BUILDER_MS : QUEUE_MS)) throw nobodyTookIt(builders.length, refusal);
    if (builders.length > 0 && !saidWaiting) {
      log.platform(`Waiting for a node: ${refusal}`);
      saidWaiting = true;
    }
    await sleep(ASK_AGAIN_MS, undefined, { signal: cancelled }).catch(() => undefined);
  }

  function nobodyTookIt(builders: number, why: string): FleetError {
    const reason =
      builders === 0
        ? 'No connected node builds images. Start an agent with LAMBDA_BUILDS=true (`lambda up --builds`), and read in docs/container-images.md what that allows.'
        : `No node could build it within ${QUEUE_MS / 60_000} minutes: ${why}`;
    return new FleetError('not_started', reason, { build: build.buildId });
  }
}

function buildersOf(registry: NodeRegistry): NodeSession[] {
  const builders = [...registry.sessions()].filter((session) => session.hello.builds && registry.isEligible(session));
  return builders.sort((a, b) => a.builds.size - b.builds.size);
}

async function giveTo(session: NodeSession, request: NodeBuild): Promise<BuildEnd> {
  const { projectId, build, log, cancelled, onGiven } = request;
  let given: Promise<void> = Promise.resolve();
  let told = false;
  const tell = (): void => {
    if (told) return;
    told = true;
    log.platform(`Building on ${session.nodeId}`);
    given = onGiven(session.nodeId);
  };
  const ended = new Promise<BuildEnd>((resolve, reject) => {
    session.builds.give(build, projectId, {
      log: (lines) => {
        // A node that refuses says nothing before.
        tell();
        log.receive(lines);
      },
      ended: resolve,
      lost: (reason) =>
        reject(new FleetError('unavailable', `The node ${session.nodeId} was lost: ${reason}. Deploy again.`)),
    });
  });
  const guard = new AbortController();
  const overdue = (ms: number, err: Error) =>
    sleep(ms, undefined, { signal: guard.signal }).then(
      () => Promise.reject(err),
      () => new Promise<never>(() => {}),
    );
  const cancel = async (): Promise<never> => {
    session.builds.cancel(build.buildId);
    return overdue(CANCEL_GRACE_MS, new BuildCancelled());
  };
  const cancelling = new Promise<never>((_, reject) => {
    const onAbort = () => void cancel().catch(reject);
    if (cancelled.aborted) onAbort();
    else cancelled.addEventListener('abort', onAbort, { once: true, signal: guard.signal });
  });
  const tooLong = overdue(
    BUILD_MS_MAX,
    new FleetError('unavailable', `The node ${session.nodeId} did not end the build.`),
  );
  try {
    const end = await Promise.race([ended, cancelling, tooLong]);
    if (end.outcome !== BuildOutcome.REFUSED) tell();
    await given;
    return end;
  } catch (err) {
    session.builds.cancel(build.buildId);
    throw err;
  } finally {
    guard.abort();
  }
}
