import { DeadlineExceeded, withDeadline } from '@lambda-fleet/common/deadline';
import { errorText } from '@lambda-fleet/common/errors';
import type Docker from 'dockerode';
import type { Architecture } from './image-set.js';

/** Deadline of calls that answer from the engine's memory. */
const CALL_DEADLINE_MS = 15_000;

export interface ImageFacts {
  readonly id: string;
  readonly labels: Readonly<Record<string, string>>;
}

/** The image of that name, or undefined when the engine has none. */
export async function inspectImage(docker: Docker, name: string): Promise<ImageFacts | undefined> {
  try {
    const image = await withDeadline(`inspecting ${name}`, CALL_DEADLINE_MS, docker.getImage(name).inspect());
    return { id: image.Id, labels: image.Config.Labels ?? {} };
  } catch (error) {
    if (hasStatus(error, 404)) return undefined;
    throw error;
  }
}

/** The architecture of the machine that the engine runs containers on, which need not be this one. */
export async function engineArchitecture(docker: Docker): Promise<Architecture> {
  const { Arch, Os } = await withDeadline(
    'asking the Docker engine for its version',
    CALL_DEADLINE_MS,
    docker.version(),
  );
  if (Os === 'linux' && Arch === 'amd64') return 'x64';
  if (Os === 'linux' && Arch === 'arm64') return 'arm64';
  throw new Error(`runtime images exist for Linux on amd64 and arm64; the Docker engine runs ${Os} on ${Arch}`);
}

/**
 * Reads an engine's progress stream (one JSON object a line) to its end. Rejects with the engine's own words
 * when it reports an error, and when it falls silent for `silenceMaxMs`: a pull may take minutes but must move.
 */
export async function followProgress(what: string, stream: NodeJS.ReadableStream, silenceMaxMs: number): Promise<void> {
  return new Promise((resolve, reject) => {
    let rest = '';
    const fail = (error: Error) => {
      clearTimeout(silence);
      if ('destroy' in stream && typeof stream.destroy === 'function') stream.destroy();
      reject(error);
    };
    const silence = setTimeout(() => fail(new DeadlineExceeded(what, silenceMaxMs)), silenceMaxMs);
    stream.setEncoding('utf8');
    stream.on('data', (text: string) => {
      silence.refresh();
      const lines = (rest + text).split('\n');
      rest = lines.pop() ?? '';
      const error = lines.map(reportedError).find((message) => message !== undefined);
      if (error !== undefined) fail(new Error(`${what}: ${error}`));
    });
    stream.once('error', fail);
    stream.once('end', () => {
      clearTimeout(silence);
      const error = reportedError(rest);
      if (error === undefined) resolve();
      else reject(new Error(`${what}: ${error}`));
    });
  });
}

function reportedError(line: string): string | undefined {
  if (line.trim() === '') return undefined;
  const report: unknown = JSON.parse(line);
  if (typeof report !== 'object' || report === null || !('error' in report)) return undefined;
  return String(report.error);
}

export function hasStatus(error: unknown, status: number): boolean {
  return typeof error === 'object' && error !== null && 'statusCode' in error && error.statusCode === status;
}

/** What the engine said, without the client's prefix of status and call. */
export function engineErrorText(error: unknown): string {
  if (typeof error === 'object' && error !== null && 'json' in error) {
    const { json } = error;
    if (typeof json === 'object' && json !== null && 'message' in json) return String(json.message).trim();
  }
  return errorText(error).trim();
}
