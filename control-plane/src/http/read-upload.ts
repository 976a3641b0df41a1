import { Busboy, type BusboyInstance } from '@fastify/busboy';
import { FleetError } from '@lambda-fleet/common/errors';
import { ARCHIVE_BYTES_MAX } from '@lambda-fleet/common/limits';
import type { ApiContext } from './api-route.js';
import type { BodyBudget } from './body-budget.js';
import { ClientGone, collectBody, declaresTooMuch } from './collect-body.js';
import { mediaType, parseJson, readJson } from './read-input.js';

export interface Upload {
  /** The JSON that came with it, not checked yet. */
  readonly definition: unknown;
  readonly archive: Buffer | undefined;
  readonly release: () => void;
}

const ARCHIVE_TYPES = ['application/zip', 'application/gzip', 'application/x-gzip', 'application/octet-stream'];
const DEFINITION_BYTES_MAX = 256 * 1024;

/** `application/json`, or `multipart/form-data` with the parts `definition` and `archive`. */
export async function readUpload(c: ApiContext, budget: BodyBudget): Promise<Upload> {
  if (mediaType(c) === 'multipart/form-data') return readMultipart(c, budget);
  return { definition: await readJson(c, budget), archive: undefined, release: () => undefined };
}

/** The archive itself as the body; undefined when the body is of another type. */
export async function readArchiveBody(c: ApiContext, budget: BodyBudget): Promise<Upload | undefined> {
  if (!ARCHIVE_TYPES.includes(mediaType(c))) return undefined;
  if (declaresTooMuch(c.env.incoming, ARCHIVE_BYTES_MAX)) throw archiveTooLarge();
  const { bytes, release } = await collectBody(c.env.incoming, ARCHIVE_BYTES_MAX, budget);
  return { definition: {}, archive: bytes, release };
}

/** Holds one archive and one definition in memory and nothing else, whatever is sent. */
function readMultipart(c: ApiContext, budget: BodyBudget): Promise<Upload> {
  const req = c.env.incoming;
  return new Promise((resolve, reject) => {
    if (declaresTooMuch(req, ARCHIVE_BYTES_MAX + DEFINITION_BYTES_MAX)) throw archiveTooLarge();
    const parts = new Map<string, Buffer>();
    let held = 0;
    let busboy: BusboyInstance;
    try {
      busboy = new Busboy({
        headers: { ...req.headers, 'content-type': req.headers['content-type'] ?? '' },
        limits: {
          parts: 4,
          fields: 4,
          files: 2,
          fieldSize: DEFINITION_BYTES_MAX,
          fileSize: ARCHIVE_BYTES_MAX + 1,
          headerPairs: 50,
        },
      });
    } catch (err) {
      throw malformed(err);
    }
    const release = () => {
      budget.giveBack(held);
      held = 0;
    };
    let settled = false;
    const fail = (err: Error) => {
      if (settled) return;
      settled = true;
      req.unpipe(busboy);
      release();
      reject(err);
    };
    const onGone = () => {
      if (!req.complete) fail(new ClientGone());
    };
    req.once('close', onGone);
    busboy.on('partsLimit', () => fail(unknownParts()));
    busboy.on('field', (name, value, _nameTruncated, valueTruncated) => {
      if (name !== 'definition') fail(unknownParts());
      if (valueTruncated) fail(new FleetError('payload_too_large', `The part ${name} is too large.`));
      parts.set(name, Buffer.from(value));
    });
    busboy.on('file', (name, stream) => {
      if (name !== 'definition' && name !== 'archive') fail(unknownParts());
      const chunks: Buffer[] = [];
      stream.on('data', (chunk: Buffer) => {
        if (settled) return;
        try {
          budget.take(chunk.length);
          held += chunk.length;
          chunks.push(chunk);
        } catch (err) {
          fail(err as FleetError);
        }
      });
      // A part that ends too early fails on its own stream, and nowhere else: without a listener that ends the process.
      stream.on('error', (err) => fail(malformed(err)));
      stream.on('limit', () => fail(archiveTooLarge()));
      stream.on('end', () => parts.set(name, Buffer.concat(chunks)));
    });
    busboy.on('error', (err) => fail(malformed(err)));
    busboy.on('finish', () => {
      if (settled) return;
      settled = true;
      req.off('close', onGone);
      try {
        const archive = parts.get('archive');
        if (archive === undefined) {
          throw new FleetError('invalid_request', 'The form has no part "archive" with the code.', {
            field: 'archive',
          });
        }
        const definition = parseJson(parts.get('definition')?.toString('utf8') ?? '{}', 'The part "definition"');
        resolve({ definition, archive, release });
      } catch (err) {
        release();
        reject(err);
      }
    });
    req.pipe(busboy);
  });
}

function unknownParts(): FleetError {
  return new FleetError(
    'invalid_request',
    'The form may have the parts "definition" and "archive", each once, and no other.',
  );
}

function malformed(cause: unknown): FleetError {
  return new FleetError('invalid_request', 'The body is not well-formed multipart/form-data.', undefined, { cause });
}

function archiveTooLarge(): FleetError {
  return new FleetError(
    'archive_too_large',
    `The archive is too large: at most ${ARCHIVE_BYTES_MAX} bytes are allowed. Leave out what the function does not need.`,
  );
}
