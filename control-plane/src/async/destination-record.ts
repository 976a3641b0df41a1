import { isUtf8 } from 'node:buffer';
import { functionArn } from '../functions/function-record.js';
import type { AttemptEnd, ClaimedInvocation, DeadLetterCondition } from './async-invocation.js';

/** A record longer than this goes without the response, and then without the request. */
const RECORD_BYTES_MAX = 1024 * 1024;

/**
 * What a destination is sent, in the shape of AWS Lambda's: `{version, timestamp, requestContext, requestPayload,
 * responseContext, responsePayload}`. Payloads that are JSON go in as they are, anything else as text.
 */
export function destinationRecord(
  row: Pick<ClaimedInvocation, 'id' | 'functionName' | 'payload'>,
  end: Pick<AttemptEnd, 'outcome' | 'error'>,
  about: {
    readonly condition: 'Success' | DeadLetterCondition;
    readonly invokeCount: number;
    readonly executedVersion: string;
    readonly body: Buffer | undefined;
    readonly at: Date;
  },
): Buffer {
  const { outcome, error } = end;
  const succeeded = outcome === 'success';
  const head = {
    version: '1.0',
    timestamp: about.at.toISOString(),
    requestContext: {
      requestId: row.id,
      functionArn: `${functionArn(row.functionName)}:${about.executedVersion}`,
      condition: about.condition,
      approximateInvokeCount: about.invokeCount,
    },
    responseContext: {
      statusCode: 200,
      executedVersion: about.executedVersion,
      ...(!succeeded && { functionError: 'Unhandled' }),
    },
  };
  const failure = error ?? { errorType: outcome, errorMessage: outcome };
  const response = succeeded ? jsonOf(about.body) : JSON.stringify(failure);
  const request = jsonOf(row.payload);
  const open = JSON.stringify(head).slice(0, -1);
  let [requestPayload, responsePayload] = [request, response];
  const length = () => open.length + Buffer.byteLength(requestPayload) + Buffer.byteLength(responsePayload);
  if (length() > RECORD_BYTES_MAX) responsePayload = 'null';
  if (length() > RECORD_BYTES_MAX) requestPayload = 'null';
  return Buffer.from(`${open},"requestPayload":${requestPayload},"responsePayload":${responsePayload}}`);
}

function jsonOf(bytes: Buffer | undefined): string {
  if (bytes === undefined || bytes.length === 0 || bytes.length > RECORD_BYTES_MAX || !isUtf8(bytes)) return 'null';
  const text = bytes.toString('utf8');
  try {
    JSON.parse(text);
    return text;
  } catch {
    return JSON.stringify(text);
  }
}
