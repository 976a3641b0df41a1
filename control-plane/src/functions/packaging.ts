import { FleetError } from '@lambda-fleet/common/errors';
import type { CodeUpload } from './code.js';
import type { FunctionConfig } from './definition.js';

/**
 * Whether the configuration fits the code: the runtime `image` runs container images and nothing else does.
 *
 * @param code undefined keeps that of `replaced`
 * @throws FleetError `invalid_request`
 */
export function checkPackaging(
  config: FunctionConfig,
  code: CodeUpload | undefined,
  replaced: FunctionConfig | undefined,
): void {
  const runsImage = config.runtime === 'image';
  const isImage = code === undefined ? replaced?.runtime === 'image' : 'image' in code;
  if (runsImage === isImage) return;
  const message = runsImage
    ? `The runtime "image" runs container images, which are built: POST /api/functions/${config.name}/builds, or \`lambda deploy\` of a folder with a Dockerfile. For other code name another runtime.`
    : `"${config.name}" is a container image, which the runtime "${config.runtime}" cannot run. Send the code for it, too.`;
  throw new FleetError('invalid_request', message, { field: 'runtime' });
}
