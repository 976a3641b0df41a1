import type { ContainerCreateOptions } from 'dockerode';
import { type ContainerSpecInput, containerSpec, readOnly } from './container-spec.js';

/** Where no image has anything. The engine makes the mount point. */
const INIT_INSIDE = '/run/lambda-init';
/** The init takes both away before the program starts, so no shell has to move them. */
const ATTACHED_CHANNEL = 'fd:0,1';

/**
 * A container that starts from a function's own image: every limit of {@link containerSpec}, and nothing that a runtime image
 * would have to hold. Its program, with its environment, is the init's to start.
 *
 * @param init the static init on the host
 */
export function imageContainerSpec(input: Omit<ContainerSpecInput, 'entry'>, init: string): ContainerCreateOptions {
  const attach = input.transport === 'attach';
  const spec = containerSpec({ ...input, entry: [INIT_INSIDE] });
  const { taskDir, cacheDir } = input.sandbox;
  const mounts = spec.HostConfig?.Mounts ?? [];
  return {
    ...spec,
    Entrypoint: INIT_INSIDE,
    Cmd: [],
    WorkingDir: '/',
    Env: (spec.Env ?? [])
      .filter((entry) => /^LAMBDA_(CHANNEL|NONCE)=/.test(entry))
      .map((entry) => (attach && entry.startsWith('LAMBDA_CHANNEL=') ? `LAMBDA_CHANNEL=${ATTACHED_CHANNEL}` : entry)),
    HostConfig: {
      ...spec.HostConfig,
      // What stands at the mount points of a runtime's code is the image's own.
      Mounts: [
        ...mounts.filter(({ Source }) => Source !== taskDir && Source !== cacheDir),
        readOnly(init, INIT_INSIDE),
      ],
    },
  };
}
