import { FleetError } from '@lambda-fleet/common/errors';
import { IMAGE_CONFIG_BYTES_MAX, IMAGE_LAYERS_MAX } from '@lambda-fleet/common/limits';
import type { BuiltImage } from '@lambda-fleet/proto';
import type { ContainerImage } from '../db/schema.js';

const ARCHITECTURES = new Set(['x64', 'arm64']);
const SHA256 = /^[0-9a-f]{64}$/;
/** What PostgreSQL cannot store as JSON, and no program could be given. */
const UNSTORABLE = /\0|\p{Surrogate}/u;

/**
 * What an agent says that it built, checked. Whether its layers are stored is the image store's to say.
 *
 * @throws FleetError `build_failed`
 */
export function readBuiltImage(built: BuiltImage | undefined, bytesMax: number): ContainerImage {
  if (built === undefined) throw unusable('the node did not describe it');
  const { architecture, layers, entrypoint, command, environment, workingDirectory, exposedPorts } = built;
  if (!ARCHITECTURES.has(architecture)) throw unusable('it is for another architecture than x64 and arm64');
  if (layers.length === 0) throw unusable('it is empty');
  if (layers.length > IMAGE_LAYERS_MAX) throw unusable(`it has more than ${IMAGE_LAYERS_MAX} layers`);
  if (!layers.every(({ sha256, bytes }) => SHA256.test(sha256) && Number.isSafeInteger(bytes) && bytes >= 0)) {
    throw unusable('a layer has no digest');
  }
  const bytes = layers.reduce((sum, layer) => sum + layer.bytes, 0);
  if (bytes > bytesMax) throw unusable(`its layers have ${megabytes(bytes)} MB, more than ${megabytes(bytesMax)} MB`);
  if (entrypoint.length + command.length === 0) {
    throw unusable('it names no program: give the Dockerfile an ENTRYPOINT or a CMD');
  }
  const texts = [...entrypoint, ...command, ...environment, workingDirectory];
  if (texts.some((text) => UNSTORABLE.test(text))) throw unusable('its configuration is not valid Unicode');
  if (texts.reduce((sum, text) => sum + Buffer.byteLength(text) + 1, 0) > IMAGE_CONFIG_BYTES_MAX) {
    throw unusable(`its entrypoint, command and environment have more than ${IMAGE_CONFIG_BYTES_MAX} bytes`);
  }
  if (!environment.every((entry) => entry.indexOf('=') > 0))
    throw unusable('its environment has an entry without a name');
  if (workingDirectory !== '' && !workingDirectory.startsWith('/')) throw unusable('its WORKDIR is not absolute');
  if (!exposedPorts.every((port) => port >= 1 && port <= 65_535)) throw unusable('it exposes an impossible port');
  return {
    architecture,
    layers: layers.map((layer) => ({ sha256: layer.sha256, bytes: layer.bytes })),
    entrypoint,
    command,
    environment,
    workingDirectory,
    exposedPorts: exposedPorts.slice(0, 100),
  };
}

const megabytes = (bytes: number): number => Math.ceil(bytes / (1024 * 1024));

function unusable(why: string): FleetError {
  return new FleetError('build_failed', `The image was built and cannot be used: ${why}.`);
}
