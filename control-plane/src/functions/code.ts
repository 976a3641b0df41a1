import { inspectArchive } from '@lambda-fleet/common/archives/inspect-archive';
import { FleetError } from '@lambda-fleet/common/errors';
import { ARCHIVE_BYTES_MAX } from '@lambda-fleet/common/limits';
import { type RuntimeName, runtimeFamily } from '@lambda-fleet/common/runtime-names';
import { strToU8, zipSync } from 'fflate';
import { z } from 'zod';
import type { ContainerImage } from '../db/schema.js';

const filename = z
  .string('must be text')
  .regex(/^(?!\/)(?!.*(^|\/)\.{0,2}(\/|$))[A-Za-z0-9_.@/-]{1,256}$/, 'must be a relative path, like "index.mjs"');

const inlineSource = z.strictObject({ source: z.string('must be text'), filename: filename.optional() });
const base64Zip = z.strictObject({ zip: z.string('must be base64 text') });

/** `{source, filename?}` or `{zip}`. */
export const inlineCode = z
  .custom<z.infer<typeof inlineSource> | z.infer<typeof base64Zip>>()
  .superRefine((code, context) => {
    if (typeof code !== 'object' || code === null || 'source' in code === 'zip' in code) {
      context.addIssue({ code: 'custom', message: 'must be {"source": "…"} or {"zip": "<base64>"}' });
      return;
    }
    const { error } = ('source' in code ? inlineSource : base64Zip).safeParse(code);
    for (const issue of error?.issues ?? []) context.addIssue({ ...issue, code: 'custom' });
  });
export type InlineCode = z.infer<typeof inlineCode>;

/** Code as it comes in: an archive, or something that one is made of. */
export type ArchiveUpload = { readonly archive: Buffer } | InlineCode;

/** What a version can be made of. A container image is one whose layers are stored already. */
export type CodeUpload = ArchiveUpload | { readonly image: ContainerImage };

/** The earliest time that a zip can hold: with one fixed time the same source makes the same bytes. */
const ZIP_TIME = new Date(1980, 0, 1);
/** A program that somebody pasted, such as a shell script, is to be run: a Unix entry with the permissions for it. */
const EXECUTABLE = { os: 3, attrs: (0o100755 << 16) >>> 0 };
const DEFAULT_FILENAMES = {
  nodejs: 'index.mjs',
  python: 'main.py',
  provided: 'bootstrap',
  image: 'Dockerfile',
} as const;

/**
 * The archive of an upload, checked: it can be extracted within the limits and
 * stays within its folder. The code in it is not looked at. For a container image it is
 * the context of a build, which has a Dockerfile.
 *
 * @throws FleetError `invalid_archive`, `archive_too_large`
 */
export async function archiveOf(upload: ArchiveUpload, runtime: RuntimeName): Promise<Buffer> {
  if ('source' in upload) {
    const name = upload.filename ?? DEFAULT_FILENAMES[runtimeFamily(runtime)];
    if (runtime === 'image' && name !== DEFAULT_FILENAMES.image) throw noDockerfile();
    const attributes = { mtime: ZIP_TIME, ...(name === 'bootstrap' ? EXECUTABLE : {}) };
    return Buffer.from(zipSync({ [name]: [strToU8(upload.source), attributes] }));
  }
  const archive = 'archive' in upload ? upload.archive : decodeBase64(upload.zip);
  if (archive.length > ARCHIVE_BYTES_MAX) {
    throw new FleetError(
      'archive_too_large',
      `The archive has ${archive.length} bytes; at most ${ARCHIVE_BYTES_MAX} are allowed. Leave out what the function does not need.`,
    );
  }
  const { has } = await inspectArchive(archive);
  if (runtime === 'image' && !has(DEFAULT_FILENAMES.image)) throw noDockerfile();
  return archive;
}

function noDockerfile(): FleetError {
  return new FleetError('invalid_archive', 'The build context has no Dockerfile at its top.', { path: 'Dockerfile' });
}

function decodeBase64(text: string): Buffer {
  const decoded = Buffer.from(text, 'base64');
  // Buffer skips what is not base64; what it understood has to be all there was.
  if (decoded.length !== Math.floor((text.replace(/=+$/, '').length * 3) / 4)) {
    throw new FleetError('invalid_archive', 'code.zip is not base64. Encode the bytes of the zip file.', {
      field: 'code.zip',
    });
  }
  return decoded;
}
