import { homedir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import type { RuntimeName } from '@lambda-fleet/common/runtime-names';
import Docker from 'dockerode';
import { ensureBaseImage } from './base-image.js';
import { removeLeftoverBuilds } from './build-container.js';
import { engineArchitecture, engineErrorText } from './engine.js';
import { imageName, isCompiled, RUNTIME_IMAGES, type RuntimeImage } from './image-set.js';
import { programFiles } from './program-files.js';
import { ensureRuntimeImage } from './runtime-image.js';
import { ensureStaticInit } from './static-init.js';

export interface BuildImagesOptions {
  readonly docker: Docker;
  /** One line at the beginning and at the end of each slow step; nothing is said about what is fresh. */
  readonly onProgress: (line: string) => void;
  /** Runtimes to build, by name or alias. Default: all. */
  readonly only?: readonly string[];
  /** Where downloads are kept. Default: `~/.cache/lambda-fleet`. */
  readonly cacheDir?: string;
}

export interface BuiltImage {
  readonly runtime: RuntimeName;
  /** Name to create a container from. */
  readonly image: string;
  readonly id: string;
  /** False when the image was fresh already. */
  readonly built: boolean;
}

/**
 * Brings the runtime images of an engine up to date, through the engine's API alone. An image is built only when
 * something that goes into it changed; with everything fresh this takes a few calls.
 *
 * Rejects with one message that says what to install when no base image can be had, or no static init; the latter is
 * the last image, and the others are there then.
 */
export async function buildImages(options: BuildImagesOptions): Promise<readonly BuiltImage[]> {
  const { docker, onProgress, cacheDir = join(homedir(), '.cache', 'lambda-fleet') } = options;
  const selected = selectImages(options.only);
  for (const image of selected) if (!isCompiled(image)) await programFiles(image.program);
  const architecture = await engineArchitecture(docker);
  await removeLeftoverBuilds(docker);
  const context = { docker, architecture, cacheDir, onProgress };
  const baseId = await ensureBaseImage(context);
  const results: BuiltImage[] = [];
  for (const image of selected) {
    const startedAt = performance.now();
    if (isCompiled(image)) await ensureStaticInit({ ...context, baseId });
    const { id, built } = await ensureRuntimeImage({ ...context, image, baseId });
    const { repo, tag } = imageName(image.runtime);
    if (built) onProgress(`built ${repo}:${tag} in ${seconds(startedAt)}`);
    results.push({ runtime: image.runtime, image: `${repo}:${tag}`, id, built });
  }
  return results;
}

/** The images of the given runtimes, in the order of {@link RUNTIME_IMAGES}. */
export function selectImages(only: readonly string[] | undefined): readonly RuntimeImage[] {
  if (only === undefined) return RUNTIME_IMAGES;
  const names = (image: RuntimeImage): readonly string[] => [image.runtime, ...image.aliases];
  const known = RUNTIME_IMAGES.flatMap(names);
  const unknown = only.filter((name) => !known.includes(name));
  if (unknown.length > 0 || only.length === 0) {
    throw new Error(`no runtime image is named "${unknown.join('", "')}"; there are ${known.join(', ')}`);
  }
  return RUNTIME_IMAGES.filter((image) => names(image).some((name) => only.includes(name)));
}

function seconds(startedAt: number): string {
  return `${((performance.now() - startedAt) / 1_000).toFixed(1)} s`;
}

/** `node dist/build-images.js [--only nodejs22.x,python3.11]`; the engine is the one of DOCKER_HOST. */
async function main(): Promise<void> {
  const startedAt = performance.now();
  const say = (line: string) => process.stderr.write(`images: ${line}\n`);
  try {
    const { values } = parseArgs({ options: { only: { type: 'string' } } });
    const images = await buildImages({ docker: new Docker(), onProgress: say, only: values.only?.split(',') });
    const built = images.filter((image) => image.built).length;
    say(`${built} built, ${images.length - built} fresh (${seconds(startedAt)})`);
  } catch (error) {
    say(engineErrorText(error));
    process.exitCode = 1;
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) await main();
