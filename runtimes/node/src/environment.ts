import { dirname } from 'node:path';
import type { InitMessage } from './messages.js';

/** Sets the environment that user code sees: AWS's variables, then the function's own. */
export function setEnvironment(init: InitMessage, taskRoot: string): void {
  const major = process.versions.node.split('.', 1)[0];
  Object.assign(
    process.env,
    {
      _HANDLER: init.handler,
      LAMBDA_TASK_ROOT: taskRoot,
      LAMBDA_RUNTIME_DIR: dirname(__filename),
      AWS_LAMBDA_FUNCTION_NAME: init.functionName,
      AWS_LAMBDA_FUNCTION_VERSION: init.functionVersion,
      AWS_LAMBDA_FUNCTION_MEMORY_SIZE: String(init.memoryMb),
      AWS_LAMBDA_LOG_GROUP_NAME: init.logGroup,
      AWS_LAMBDA_LOG_STREAM_NAME: init.logStream,
      AWS_LAMBDA_INITIALIZATION_TYPE: 'on-demand',
      AWS_EXECUTION_ENV: `AWS_Lambda_nodejs${major}.x`,
      AWS_REGION: 'local',
      AWS_DEFAULT_REGION: 'local',
      TZ: ':UTC',
    },
    init.concurrency > 1 ? { AWS_LAMBDA_MAX_CONCURRENCY: String(init.concurrency) } : {},
    init.environment,
  );
}

/** The trace id is an invocation's, so it changes with each of them. Only where one runs at a time: the environment is the process's. */
export function setTraceId(traceId: string): void {
  if (traceId === '') {
    delete process.env._X_AMZN_TRACE_ID;
  } else {
    process.env._X_AMZN_TRACE_ID = traceId;
  }
}
