import type { ImageSpec } from '@lambda-fleet/proto';
import type { InitMessage } from '../channel/conversation.js';
import { functionEnvironment, type Program } from './program.js';

/** As on AWS, whether the image has such a folder or not. */
const TASK_ROOT = '/var/task';

/**
 * The program of a container image: its entrypoint and command, in the image's own environment, over which come AWS's variables and
 * those of the function. The port is the platform's to say.
 */
export function imageProgram(message: InitMessage, image: ImageSpec): Program {
  return {
    argv: [...image.entrypoint, ...image.command],
    workingDirectory: image.workingDirectory === '' ? '/' : image.workingDirectory,
    environment: {
      PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
      HOME: '/tmp',
      ...Object.fromEntries(image.environment.map(splitEntry)),
      ...functionEnvironment(message, TASK_ROOT),
      ...message.environment,
      ...(image.port === 0 ? {} : { PORT: String(image.port) }),
    },
    runtimeApi: image.port === 0,
  };
}

/** `NAME=value`; a value may hold further `=`. */
function splitEntry(entry: string): [string, string] {
  const at = entry.indexOf('=');
  return at === -1 ? [entry, ''] : [entry.slice(0, at), entry.slice(at + 1)];
}
