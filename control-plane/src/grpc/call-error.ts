import type { status } from '@grpc/grpc-js';

/** What a call ends with: grpc-js sends the code and the details of an error that has both. */
export function callError(code: status, details: string) {
  return Object.assign(new Error(details), { code, details });
}

export type CallError = ReturnType<typeof callError>;

export function isCallError(err: unknown): err is CallError {
  return err instanceof Error && 'code' in err && typeof err.code === 'number' && 'details' in err;
}
