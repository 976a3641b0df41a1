import { type Frame, ProtocolViolation } from './frames.js';

/** The meta of INIT. */
export interface InitMessage {
  readonly handler: string;
  readonly functionName: string;
  readonly functionVersion: string;
  readonly functionArn: string;
  readonly memoryMb: number;
  readonly environment: Readonly<Record<string, string>>;
  readonly logGroup: string;
  readonly logStream: string;
  /** Invocations at a time. */
  readonly concurrency: number;
  readonly isJob: boolean;
}

/** The meta of INVOKE. */
export interface InvokeMessage {
  readonly id: string;
  readonly deadlineMs: number;
  readonly arn: string;
  readonly traceId: string;
  readonly clientContext: string;
  readonly http: boolean;
}

/** @throws ProtocolViolation */
export function readInit({ meta }: Frame): InitMessage {
  const environment = meta.environment;
  if (typeof environment !== 'object' || environment === null || Array.isArray(environment)) {
    throw new ProtocolViolation('INIT without an environment');
  }
  const concurrency = number(meta, 'concurrency');
  if (!Number.isInteger(concurrency) || concurrency < 1) {
    throw new ProtocolViolation(`INIT with a concurrency of ${concurrency}`);
  }
  const realm = text(meta, 'realm');
  if (realm !== '' && (realm !== 'vm' || concurrency > 1)) {
    throw new ProtocolViolation(`INIT with the realm "${realm}" and a concurrency of ${concurrency}`);
  }
  return {
    handler: text(meta, 'handler'),
    functionName: text(meta, 'functionName'),
    functionVersion: text(meta, 'functionVersion'),
    functionArn: text(meta, 'functionArn'),
    memoryMb: number(meta, 'memoryMb'),
    environment: environment as Record<string, string>,
    logGroup: text(meta, 'logGroup'),
    logStream: text(meta, 'logStream'),
    concurrency,
    isJob: realm === 'vm',
  };
}

/** @throws ProtocolViolation */
export function readInvoke({ meta }: Frame): InvokeMessage {
  return {
    id: text(meta, 'id'),
    deadlineMs: number(meta, 'deadlineMs'),
    arn: text(meta, 'arn'),
    traceId: text(meta, 'traceId'),
    clientContext: text(meta, 'clientContext'),
    http: meta.http === true,
  };
}

function text(meta: Frame['meta'], key: string): string {
  const value = meta[key];
  if (typeof value !== 'string') {
    throw new ProtocolViolation(`a frame whose "${key}" is not a string`);
  }
  return value;
}

function number(meta: Frame['meta'], key: string): number {
  const value = meta[key];
  if (typeof value !== 'number') {
    throw new ProtocolViolation(`a frame whose "${key}" is not a number`);
  }
  return value;
}
