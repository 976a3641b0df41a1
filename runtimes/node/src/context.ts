import { now, parseJson } from './intrinsics.js';
import type { InitMessage, InvokeMessage } from './messages.js';

/** The second argument of a handler; the names and types are AWS's. */
export interface Context {
  readonly functionName: string;
  readonly functionVersion: string;
  readonly invokedFunctionArn: string;
  readonly memoryLimitInMB: string;
  readonly awsRequestId: string;
  readonly logGroupName: string;
  readonly logStreamName: string;
  readonly clientContext: unknown;
  readonly identity: undefined;
  readonly xRayTraceId: string | undefined;
  /** Accepted and without effect: a result is sent as soon as it is there. */
  callbackWaitsForEmptyEventLoop: boolean;
  getRemainingTimeInMillis(): number;
}

export function createContext(init: InitMessage, invoke: InvokeMessage): Context {
  return {
    functionName: init.functionName,
    functionVersion: init.functionVersion,
    invokedFunctionArn: invoke.arn,
    memoryLimitInMB: String(init.memoryMb),
    awsRequestId: invoke.id,
    logGroupName: init.logGroup,
    logStreamName: init.logStream,
    clientContext: invoke.clientContext === '' ? undefined : clientContext(invoke.clientContext),
    identity: undefined,
    xRayTraceId: invoke.traceId === '' ? undefined : invoke.traceId,
    callbackWaitsForEmptyEventLoop: true,
    getRemainingTimeInMillis: () => Math.max(0, invoke.deadlineMs - now()),
  };
}

/** The caller's text. What is not JSON is the caller's mistake and no reason to fail: the function sees none. */
function clientContext(json: string): unknown {
  try {
    return parseJson(json);
  } catch {
    return undefined;
  }
}
