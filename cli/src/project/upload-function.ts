import { type ApiClient, ApiError, segment } from '../api/client.js';
import { type BuildResource, type FunctionResource, isBuild, isFunction } from '../api/resources.js';
import type { Definition } from './lambda-json.js';

export interface Archive {
  readonly bytes: Uint8Array;
  readonly type: string;
}

/** Up to 50 MB over a slow line, and the server's own load of the code in a sandbox. */
const UPLOAD_DEADLINE_MS = 300_000;

export async function findFunction(client: ApiClient, name: string): Promise<FunctionResource | undefined> {
  try {
    const found = await client.json({ method: 'GET', path: `/api/functions/${segment(name)}` });
    if (!isFunction(found)) throw client.notOurs();
    return found;
  } catch (err) {
    if (err instanceof ApiError && err.code === 'function_not_found') return undefined;
    throw err;
  }
}

/** Creates or replaces a function. `onSent` is told when the server has everything and checks it in a sandbox. */
export async function uploadFunction(
  client: ApiClient,
  definition: Definition & { readonly name: string },
  archive: Archive,
  onSent?: () => void,
): Promise<FunctionResource> {
  const uploaded = await client.json({
    method: 'PUT',
    path: `/api/functions/${segment(definition.name)}`,
    ...(await formOf(definition, archive)),
    deadlineMs: UPLOAD_DEADLINE_MS,
    onSent,
  });
  if (!isFunction(uploaded)) throw client.notOurs();
  return uploaded;
}

/** Begins the build of a container image. The archive is its context. */
export async function uploadBuild(
  client: ApiClient,
  definition: Definition & { readonly name: string },
  archive: Archive,
): Promise<BuildResource> {
  const build = await client.json({
    method: 'POST',
    path: `/api/functions/${segment(definition.name)}/builds`,
    ...(await formOf(definition, archive)),
    deadlineMs: UPLOAD_DEADLINE_MS,
  });
  if (!isBuild(build)) throw client.notOurs();
  return build;
}

async function formOf(definition: Definition, archive: Archive) {
  const form = new FormData();
  form.set('definition', new Blob([JSON.stringify(definition)], { type: 'application/json' }));
  form.set('archive', new Blob([archive.bytes], { type: archive.type }), 'archive');
  const encoded = new Response(form);
  return {
    headers: { 'content-type': encoded.headers.get('content-type') ?? '' },
    body: new Uint8Array(await encoded.arrayBuffer()),
  };
}
