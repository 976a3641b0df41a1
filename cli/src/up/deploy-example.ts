import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ApiClient } from '../api/client.js';
import type { Output } from '../output.js';
import { listCodeFiles } from '../project/code-files.js';
import { readLambdaJson } from '../project/lambda-json.js';
import { packZip } from '../project/pack.js';
import { findFunction, uploadFunction } from '../project/upload-function.js';
import type { DataDir } from './data-dir.js';

export const EXAMPLE_NAME = 'greet';
const EXAMPLE_FOLDER = fileURLToPath(new URL('../../../examples/greet', import.meta.url));

/**
 * Gives a new fleet its first function. Done once per data directory: a function
 * of that name is never replaced, and one that its owner removed does not come back.
 */
export async function deployExample(client: ApiClient, dataDir: DataDir, output: Output): Promise<void> {
  const finish = output.step('Deploying examples/greet');
  if ((await findFunction(client, EXAMPLE_NAME)) !== undefined) {
    finish('is there already');
  } else {
    const definition = await readLambdaJson(join(EXAMPLE_FOLDER, 'lambda.json'));
    const { files } = await listCodeFiles(EXAMPLE_FOLDER);
    const archive = { bytes: await packZip(files), type: 'application/zip' };
    await uploadFunction(client, { ...definition, name: EXAMPLE_NAME }, archive);
    finish('done');
  }
  await writeFile(dataDir.exampleDeployed, '');
}
