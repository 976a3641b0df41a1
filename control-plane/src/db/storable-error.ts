import type { FunctionError } from '@lambda-fleet/proto';
import type { ExecutionError } from './schema.js';
import { storableText } from './storable-text.js';

/** An error that a sandbox reported, as it is stored. */
export function storableError({ errorType, errorMessage, trace, file, line, column }: FunctionError): ExecutionError {
  return {
    errorType: storableText(errorType),
    errorMessage: storableText(errorMessage),
    trace: trace.map(storableText),
    ...(line > 0 && { location: { file: storableText(file), line, column } }),
  };
}
