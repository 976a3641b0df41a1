import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { PAYLOAD_BYTES_MAX } from '@lambda-fleet/common/limits';
import { usageError } from './cli-error.js';
import type { Session } from './session.js';
import { bytesText, printable } from './terminal-text.js';

/**
 * JSON that an option names: `@file`, `-` for standard input, or the text itself. The bytes come back as they are.
 *
 * @param what for messages, such as `event`
 * @throws CliError for a mistake in the arguments: no such file, no JSON, over `bytesMax`
 */
export async function readJsonArgument(
  session: Session,
  given: string,
  what: string,
  option: string,
  bytesMax = PAYLOAD_BYTES_MAX,
): Promise<Buffer> {
  const bytes = await readData(session, given, what);
  if (bytes.byteLength > bytesMax) {
    throw usageError(
      `The ${what} has ${bytes.byteLength} bytes; at most ${bytesMax} (${bytesText(bytesMax)}) are allowed.`,
    );
  }
  if (bytes.byteLength === 0) return bytes;
  try {
    JSON.parse(bytes.toString());
  } catch (err) {
    const reason = err instanceof Error ? err.message : String(err);
    throw usageError(
      `The ${what} is not JSON: ${printable(reason)}.`,
      `For example: ${option} '{"name":"World"}', ${option} @file.json, or ${option} - to read standard input.`,
    );
  }
  return bytes;
}

async function readData(session: Session, data: string, what: string): Promise<Buffer> {
  if (data === '-') return await readStandardInput(PAYLOAD_BYTES_MAX);
  if (!data.startsWith('@')) return Buffer.from(data);
  try {
    return await readFile(resolve(session.cwd, data.slice(1)));
  } catch (err) {
    throw usageError(`The ${what} file ${data.slice(1)} cannot be read (${(err as NodeJS.ErrnoException).code}).`);
  }
}

/** All of standard input, or a little more than `bytesMax` of it: enough for a check of its size to say no. */
export async function readStandardInput(bytesMax: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of process.stdin as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    chunks.push(chunk);
    if (bytes > bytesMax) break;
  }
  return Buffer.concat(chunks);
}
