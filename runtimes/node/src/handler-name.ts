import { isAbsolute, join } from 'node:path';
import { Fault } from './function-error.js';

/** `folder/index.api.get` is the member `get` of the export `api` of `folder/index`. */
export interface HandlerName {
  /** Path below the task root, without its extension. */
  readonly module: string;
  /** At least one name. */
  readonly exportPath: readonly string[];
}

/** @throws Fault Runtime.MalformedHandlerName */
export function parseHandlerName(handler: string): HandlerName {
  const nameStart = handler.lastIndexOf('/') + 1;
  const dot = handler.indexOf('.', nameStart);
  const exportPath = handler.slice(dot + 1).split('.');
  if (dot <= nameStart || exportPath.includes('')) {
    throw new Fault(
      'Runtime.MalformedHandlerName',
      `The handler "${handler}" is not of the form "file.export", such as "index.handler".`,
    );
  }
  if (isAbsolute(handler) || handler.includes('\0') || handler.split('/').includes('..')) {
    throw new Fault('Runtime.MalformedHandlerName', `The handler "${handler}" leaves the function's folder.`);
  }
  return { module: join(handler.slice(0, dot)), exportPath };
}
