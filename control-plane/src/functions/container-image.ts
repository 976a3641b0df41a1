import type { ImageSpec } from '@lambda-fleet/proto';
import type { ContainerImage, ImageSettings } from '../db/schema.js';

/** An image with what its function's owner says in place of it, as agents are told. */
export function imageSpecOf(image: ContainerImage, settings: ImageSettings): ImageSpec {
  return {
    architecture: image.architecture,
    layers: image.layers.map(({ sha256, bytes }) => ({ sha256, bytes })),
    entrypoint: [...(settings.entrypoint ?? image.entrypoint)],
    // As Docker does: a command belongs to its entrypoint.
    command: [...(settings.command ?? (settings.entrypoint === undefined ? image.command : []))],
    environment: [...image.environment],
    workingDirectory: settings.workingDirectory ?? image.workingDirectory,
    port: portOf(image, settings),
  };
}

/** Zero is an image that speaks the Runtime API. */
function portOf({ exposedPorts }: ContainerImage, { port }: ImageSettings): number {
  if (port !== undefined) return port ?? 0;
  return exposedPorts.length === 1 ? (exposedPorts[0] ?? 0) : 0;
}

export function imageBytes({ layers }: ContainerImage): number {
  return layers.reduce((sum, layer) => sum + layer.bytes, 0);
}

const HANDLER = /^[\x21-\x7e]{1,256}$/;

/** What `_HANDLER` says where nobody set one: the last of the program's arguments, which is what AWS's base images take it from. */
export function handlerOfImage({ entrypoint, command }: ImageSpec): string {
  const program = [...entrypoint, ...command];
  const last = program.at(-1) ?? '';
  return program.length > 1 && HANDLER.test(last) ? last : '';
}
