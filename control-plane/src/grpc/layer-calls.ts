import { type ServerReadableStream, type ServerUnaryCall, type sendUnaryData, status } from '@grpc/grpc-js';
import type { NodeCertificate } from '@lambda-fleet/common/certificates/node-certificate';
import { FleetError } from '@lambda-fleet/common/errors';
import { IMAGE_LAYERS_MAX } from '@lambda-fleet/common/limits';
import type { Logger } from '@lambda-fleet/common/logger';
import type { HasLayersRequest, HasLayersResponse, ImageLayer, LayerPart, PutLayerResponse } from '@lambda-fleet/proto';
import type { Artifact } from '../artifacts/postgres-artifact-store.js';
import type { NodeRegistry } from '../nodes/node-registry.js';
import type { GivenBuild } from '../nodes/session-builds.js';
import { callError, isCallError } from './call-error.js';
import { peerNode, REMOVED, type RevokedPeers } from './peer-identity.js';

/** Where layers are kept. */
export interface Layers {
  stored(projectId: string, sha256: readonly string[]): Promise<readonly Artifact[]>;
  put(projectId: string, layer: Artifact, source: AsyncIterable<Uint8Array>): Promise<void>;
}

export interface LayerCallsOptions {
  readonly registry: NodeRegistry;
  readonly layers: Layers;
  readonly revoked: RevokedPeers;
  readonly log: Logger;
}

const SHA256 = /^[0-9a-f]{64}$/;
/** Longest silence between two parts of a layer. */
const PART_DEADLINE_MS = 30_000;

export async function hasLayers(
  call: ServerUnaryCall<HasLayersRequest, HasLayersResponse>,
  answer: sendUnaryData<HasLayersResponse>,
  options: LayerCallsOptions,
): Promise<void> {
  const { buildId, sha256 } = call.request;
  try {
    const { projectId } = givenBuild(peerNode(call, options.revoked), buildId, options);
    if (sha256.length > IMAGE_LAYERS_MAX || !sha256.every((digest) => SHA256.test(digest))) throw malformed();
    answer(null, { stored: sha256.length === 0 ? [] : [...(await options.layers.stored(projectId, sha256))] });
  } catch (err) {
    answer(toStatus(err, options.log));
  }
}

export async function putLayer(
  call: ServerReadableStream<LayerPart, PutLayerResponse>,
  answer: sendUnaryData<PutLayerResponse>,
  options: LayerCallsOptions,
): Promise<void> {
  const silence = setTimeout(() => call.destroy(new Error('the layer stopped coming')), PART_DEADLINE_MS);
  const parts = call[Symbol.asyncIterator]() as AsyncIterator<LayerPart>;
  try {
    const node = peerNode(call, options.revoked);
    const first: IteratorResult<LayerPart> = await parts.next();
    if (first.done === true) throw malformed();
    const { buildId, layer } = first.value;
    const given = givenBuild(node, buildId, options);
    const admitted = admit(given, layer);
    try {
      await options.layers.put(
        given.projectId,
        admitted,
        dataOf(parts, () => {
          if (options.revoked.isRevoked(node)) throw callError(status.UNAUTHENTICATED, REMOVED);
          silence.refresh();
        }),
      );
    } catch (err) {
      // It may be sent again.
      given.sentBytes -= admitted.bytes;
      throw err;
    }
    answer(null, {});
  } catch (err) {
    answer(toStatus(err, options.log));
    // Whatever still comes is not wanted; without a reader the stream would never end.
    call.resume();
  } finally {
    clearTimeout(silence);
  }
}

async function* dataOf(parts: AsyncIterator<LayerPart>, heard: () => void): AsyncGenerator<Uint8Array> {
  for (;;) {
    const next = await parts.next();
    if (next.done === true) return;
    heard();
    yield next.value.data;
  }
}

/** Counts a layer against what the image may have, before a byte of it is taken. */
function admit(given: GivenBuild, layer: ImageLayer | undefined): ImageLayer {
  if (layer === undefined || !SHA256.test(layer.sha256) || !Number.isSafeInteger(layer.bytes)) throw malformed();
  if (given.sentBytes + layer.bytes > given.build.imageBytesMax) {
    throw callError(status.RESOURCE_EXHAUSTED, 'the layers are larger than the image may be');
  }
  given.sentBytes += layer.bytes;
  return layer;
}

/** The same answer whether there is no such build or it is another node's. */
function givenBuild({ nodeId }: NodeCertificate, buildId: string, { registry }: LayerCallsOptions): GivenBuild {
  const given = registry.session(nodeId)?.builds.get(buildId);
  if (given === undefined) throw callError(status.PERMISSION_DENIED, 'no such build of this node');
  return given;
}

const malformed = () => callError(status.INVALID_ARGUMENT, 'malformed');

function toStatus(err: unknown, log: Logger) {
  if (isCallError(err)) return err;
  log.warn({ err }, 'layer_call_failed');
  if (!(err instanceof FleetError)) return callError(status.INTERNAL, 'the layer could not be stored');
  return callError(err.retryable ? status.UNAVAILABLE : status.INVALID_ARGUMENT, err.message);
}
