/** Sizes and counts that several processes must agree on. Bytes unless the name says otherwise. */

/** Of an async invocation, which waits in the database. As AWS Lambda's. */
export const ASYNC_PAYLOAD_BYTES_MAX = 1024 * 1024;

/** Largest event of a synchronous invocation. */
export const PAYLOAD_BYTES_MAX = 6 * 1024 * 1024;

/** Largest response of a function; AWS's own figure, which its clients know. */
export const RESPONSE_BYTES_MAX = 6_291_556;

/** Bodies up to this size travel inside Invoke and ResponseEnd, larger ones on the Transfer stream. */
export const INLINE_BODY_BYTES_MAX = 32 * 1024;

/** One PayloadChunk, ResponseChunk or ArtifactChunk. */
export const CHUNK_BYTES_MAX = 64 * 1024;

/** Largest source text of a job. */
export const JOB_CODE_BYTES_MAX = 256 * 1024;

export const ARCHIVE_BYTES_MAX = 50 * 1024 * 1024;
export const UNPACKED_BYTES_MAX = 250 * 1024 * 1024;
export const ARCHIVE_ENTRIES_MAX = 20_000;

/** All keys and values of a function's environment together. */
export const ENVIRONMENT_BYTES_MAX = 4 * 1024;

export const FUNCTION_NAME = /^[A-Za-z0-9_-]{1,64}$/;

/** Function names that the gateway can serve by Host: DNS labels without `--`, which separates an alias. */
export const HOST_LABEL = /^(?!.*--)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;

/** Layers of one container image; what Docker's own storage can stack. */
export const IMAGE_LAYERS_MAX = 127;

/** Entrypoint, command and environment of a container image together. */
export const IMAGE_CONFIG_BYTES_MAX = 64 * 1024;
