import { isUtf8 } from 'node:buffer';
import { FleetError } from '@lambda-fleet/common/errors';
import { z } from 'zod';
import { type ArchiveUpload, inlineCode } from '../functions/code.js';
import { imageSpecOf } from '../functions/container-image.js';
import { definitionChanges, definitionFields, functionName } from '../functions/definition.js';
import type { Deployed, Deployer } from '../functions/deployer.js';
import type { FunctionRecord } from '../functions/function-record.js';
import { type FunctionTable, functionNotFound } from '../functions/function-table.js';
import { parseInput } from '../functions/parse-input.js';
import { runTest, type TestRunOptions } from '../functions/test-run.js';
import type { ApiContext, ApiRoute } from './api-route.js';
import type { BodyBudget } from './body-budget.js';
import { decodeCursor, encodeCursor, readJson, readLimit } from './read-input.js';
import { readArchiveBody, readUpload } from './read-upload.js';

export interface FunctionRoutesOptions {
  readonly functions: FunctionTable;
  readonly deployer: Deployer;
  readonly testRuns: TestRunOptions;
  readonly budget: BodyBudget;
  /** The address of a function. */
  readonly functionUrl: (name: string) => string;
}

const creation = z.strictObject(
  { ...definitionFields, name: functionName, code: inlineCode.optional() },
  'must be an object',
);
const replacement = z.strictObject(
  { ...definitionFields, name: functionName.optional(), code: inlineCode.optional() },
  'must be an object',
);
const codeOnly = z.strictObject({ code: inlineCode }, 'must be an object');
const { runtime, handler, memoryMb, cpus, timeoutMs, initTimeoutMs, environment } = definitionFields;
const { isolation, network, egressHosts, labels } = definitionFields;
const testRun = z.strictObject(
  {
    ...{ runtime, handler, memoryMb, cpus, timeoutMs, initTimeoutMs, environment, isolation, network, egressHosts },
    labels,
    code: inlineCode,
    event: z.unknown().optional(),
    http: z.boolean('must be true or false').optional(),
  },
  'must be an object',
);

export function functionRoutes(options: FunctionRoutesOptions): readonly ApiRoute[] {
  const { functions, deployer, testRuns, budget, functionUrl } = options;

  const shown = (record: FunctionRecord, warnings?: readonly string[]) => {
    const { id, name, route, httpAuth, version, runtime, handler, memoryMb, cpus, timeoutMs, initTimeoutMs } = record;
    const { keepAliveMs, environment, artifactSha256, artifactBytes, createdAt, updatedAt } = record;
    const { isolation, network, egressHosts, concurrency, keepRunning, provisionedConcurrency, keepPayloads } = record;
    const { reservedConcurrency, maximumConcurrency } = record;
    const { labels } = record;
    const image = record.image === null ? undefined : imageSpecOf(record.image, record.imageSettings);
    return {
      ...{ id, name, route, httpAuth, url: functionUrl(name), version, runtime, handler, memoryMb, cpus },
      ...{ timeoutMs, initTimeoutMs, keepAliveMs, environment, codeSha256: artifactSha256, codeBytes: artifactBytes },
      ...{ isolation, network, egressHosts, concurrency, keepRunning, provisionedConcurrency, keepPayloads },
      ...{ reservedConcurrency, maximumConcurrency },
      labels,
      packageType: image === undefined ? 'zip' : 'image',
      ...(image && {
        image: {
          ...{ architecture: image.architecture, port: image.port === 0 ? null : image.port },
          ...{ entrypoint: image.entrypoint, command: image.command, workingDirectory: image.workingDirectory },
          layers: image.layers,
        },
      }),
      ...{ createdAt, updatedAt },
      ...(warnings === undefined || warnings.length === 0 ? {} : { warnings }),
    };
  };
  const answer = (c: ApiContext, { record, warnings, created }: Deployed) =>
    c.json(shown(record, warnings), created ? 201 : 200);

  return [
    {
      method: 'GET',
      path: '/api/functions',
      policy: 'key',
      handle: async (c, { projectId }) => {
        const limit = readLimit(c, 100);
        const found = await functions.list(projectId, limit + 1, decodeCursor(c) ?? '');
        const page = found.slice(0, limit);
        const last = page.at(-1);
        const nextCursor = found.length > limit && last !== undefined ? encodeCursor(last.name) : null;
        return c.json({ functions: page.map((record) => shown(record)), nextCursor });
      },
    },
    {
      method: 'POST',
      path: '/api/functions',
      policy: 'key',
      handle: async (c, { projectId }) => {
        const upload = await readUpload(c, budget);
        try {
          const { name, code, ...changes } = parseInput(creation, upload.definition);
          return answer(c, await deployer.create(projectId, name, changes, codeOf(upload.archive, code) ?? noCode()));
        } finally {
          upload.release();
        }
      },
    },
    {
      method: 'POST',
      path: '/api/functions/test',
      policy: 'key',
      handle: async (c, { projectId }) => {
        const { code, event, http = false, ...definition } = parseInput(testRun, await readJson(c, budget));
        const { result, logs } = await runTest(projectId, { definition, code, event, http }, testRuns);
        const { outcome, error, reason, receipt } = result;
        const text = isUtf8(result.body);
        return c.json({
          outcome,
          ...(result.http && { statusCode: result.http.statusCode, headers: headersOf(result.http.headers) }),
          body: result.body.toString(text ? 'utf8' : 'base64'),
          isBase64Encoded: !text,
          ...(error && {
            error: { errorType: error.errorType, errorMessage: error.errorMessage, trace: error.trace },
          }),
          ...(reason && { reason }),
          logs,
          receipt,
        });
      },
    },
    {
      method: 'GET',
      path: '/api/functions/:name',
      policy: 'key',
      handle: async (c, { projectId }) => {
        const name = param(c, 'name');
        const record = await functions.find(projectId, name);
        if (record === undefined) throw functionNotFound(name);
        return c.json(shown(record));
      },
    },
    {
      method: 'PUT',
      path: '/api/functions/:name',
      policy: 'key',
      handle: async (c, { projectId }) => {
        const { name } = parseInput(z.object({ name: functionName }), { name: param(c, 'name') });
        const upload = await readUpload(c, budget);
        try {
          const { name: named, code, ...changes } = parseInput(replacement, upload.definition);
          sameName(named, name);
          return answer(c, await deployer.put(projectId, name, changes, codeOf(upload.archive, code)));
        } finally {
          upload.release();
        }
      },
    },
    {
      method: 'PATCH',
      path: '/api/functions/:name',
      policy: 'key',
      handle: async (c, { projectId }) => {
        const changes = parseInput(definitionChanges, await readJson(c, budget));
        return answer(c, await deployer.configure(projectId, param(c, 'name'), changes));
      },
    },
    {
      method: 'PUT',
      path: '/api/functions/:name/code',
      policy: 'key',
      handle: async (c, { projectId }) => {
        const upload = await readArchiveBody(c, budget);
        try {
          const code = upload?.archive
            ? { archive: upload.archive }
            : parseInput(codeOnly, await readJson(c, budget)).code;
          return answer(c, await deployer.upload(projectId, param(c, 'name'), code));
        } finally {
          upload?.release();
        }
      },
    },
    {
      method: 'DELETE',
      path: '/api/functions/:name',
      policy: 'key',
      handle: async (c, { projectId }) => {
        await deployer.remove(projectId, param(c, 'name'));
        return c.body(null, 204);
      },
    },
  ];
}

/** A name in the body is allowed, and must be that of the path. */
export function sameName(named: string | undefined, name: string): void {
  if (named === undefined || named === name) return;
  throw new FleetError('invalid_request', `name is "${named}" in the body and "${name}" in the path.`, {
    field: 'name',
  });
}

export function codeOf(archive: Buffer | undefined, code: ArchiveUpload | undefined): ArchiveUpload | undefined {
  if (archive === undefined) return code;
  if (code === undefined) return { archive };
  throw new FleetError('invalid_request', 'There is code in the definition and in the archive; send one of them.', {
    field: 'code',
  });
}

export function noCode(): never {
  throw new FleetError(
    'invalid_request',
    'code is missing: {"source": "…"} or {"zip": "<base64>"}, or upload an archive as multipart/form-data.',
    { field: 'code' },
  );
}

function headersOf(headers: readonly { name: string; value: string }[]): Record<string, string> {
  const joined = new Map<string, string>();
  for (const { name, value } of headers) joined.set(name, joined.has(name) ? `${joined.get(name)}, ${value}` : value);
  return Object.fromEntries(joined);
}

/** Hono's own types know a parameter only beside the literal path. */
export function param(c: ApiContext, name: string): string {
  return c.req.param(name) ?? '';
}
