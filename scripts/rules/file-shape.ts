import { isTest, type SourceFile } from './source-files.js';

const LINES_MAX = 400;
const CODE = /\.(ts|mts|tsx|js|mjs|cjs|py|c)$/;

/** Names that say nothing about what is inside. */
const VAGUE = /(^|\/)(utils?|helpers?|misc|services?|managers?|lib)(\/|\.[a-z]+$)/;

/** Code files too long to be about one thing. Generated code and tests may be. */
export function longFiles(files: readonly SourceFile[]): string[] {
  return files
    .filter(({ path }) => CODE.test(path) && !path.startsWith('proto/gen/') && !isTest(path))
    .map(({ path, text }) => ({ path, lines: text.trimEnd().split('\n').length }))
    .filter(({ lines }) => lines > LINES_MAX)
    .map(({ path, lines }) => `${path} has ${lines} lines, more than ${LINES_MAX}`);
}

export function vagueNames(files: readonly SourceFile[]): string[] {
  return files.filter(({ path }) => VAGUE.test(path)).map(({ path }) => `${path} should be named for what is inside`);
}
