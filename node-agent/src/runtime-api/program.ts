import type { InitMessage } from '../channel/conversation.js';

/** Where programs expect the Runtime API; the init takes another port only where this one is taken. */
const RUNTIME_API_PORT = 9001;
/** As the init has it: no longer bodies of INIT are understood. */
const BODY_BYTES_MAX = 256 * 1024;

/** What the static init is to start. */
export interface Program {
  /** The first is looked for in the environment's PATH when it has no `/`. */
  readonly argv: readonly string[];
  /** Empty leaves the container's own. */
  readonly workingDirectory: string;
  readonly environment: Readonly<Record<string, string>>;
  /** Whether it is offered the Runtime API. */
  readonly runtimeApi: boolean;
}

/** The executable `bootstrap` of a function's code. */
export function bootstrapProgram(message: InitMessage, taskRoot: string): Program {
  return {
    argv: [`${taskRoot}/bootstrap`],
    workingDirectory: taskRoot,
    environment: {
      PATH: '/usr/local/bin:/usr/bin:/bin',
      LD_LIBRARY_PATH: `${taskRoot}:${taskRoot}/lib`,
      HOME: '/tmp',
      LANG: 'C.UTF-8',
      ...functionEnvironment(message, taskRoot),
      AWS_EXECUTION_ENV: 'AWS_Lambda_provided.al2023',
      ...message.environment,
    },
    runtimeApi: true,
  };
}

/** AWS's own variables; those of the function come after them, and cannot have their names. */
export function functionEnvironment(message: InitMessage, taskRoot: string): Readonly<Record<string, string>> {
  return {
    _HANDLER: message.handler,
    LAMBDA_TASK_ROOT: taskRoot,
    LAMBDA_RUNTIME_DIR: '/var/runtime',
    AWS_LAMBDA_FUNCTION_NAME: message.functionName,
    AWS_LAMBDA_FUNCTION_VERSION: message.functionVersion,
    AWS_LAMBDA_FUNCTION_MEMORY_SIZE: String(message.memoryMb),
    AWS_LAMBDA_LOG_GROUP_NAME: message.logGroup,
    AWS_LAMBDA_LOG_STREAM_NAME: message.logStream,
    AWS_LAMBDA_INITIALIZATION_TYPE: 'on-demand',
    AWS_REGION: 'local',
    AWS_DEFAULT_REGION: 'local',
    TZ: ':UTC',
  };
}

/** INIT's body, see `runtimes/provided/README.md`. Throws when it cannot be said in that form. */
export function encodeProgram({ argv, workingDirectory, environment, runtimeApi }: Program): Buffer {
  const strings = [
    runtimeApi ? String(RUNTIME_API_PORT) : '0',
    workingDirectory,
    String(argv.length),
    ...argv,
    ...Object.entries(environment).map(([name, value]) => `${name}=${value}`),
  ];
  if (strings.some((text) => text.includes('\0'))) throw new RangeError('a program or its environment holds a NUL');
  const body = Buffer.from(strings.map((text) => `${text}\0`).join(''));
  if (body.length > BODY_BYTES_MAX) throw new RangeError('a program and its environment are too long for the channel');
  return body;
}
