import { isTest, type SourceFile, withoutComments } from './source-files.js';

const READS = [
  /\bprocess\s*\.\s*env\b/,
  /\bprocess\s*\[\s*['"]env['"]/,
  /\{[^}]*\benv\b[^}]*\}\s*(=\s*process\b|from\s*['"](node:)?process)/,
];

/** Reads of the environment anywhere but in a process's one `config.ts`. Runtimes are exempt: it is the user's there. */
export function environmentReads(files: readonly SourceFile[]): string[] {
  return files
    .filter(({ path }) => /^(control-plane|node-agent|cli|common)\/src\/.*\.ts$/.test(path))
    .filter(({ path }) => !isTest(path) && !/^[a-z-]+\/src\/config\.ts$/.test(path))
    .filter(({ text }) => READS.some((read) => read.test(withoutComments(text))))
    .map(({ path }) => `${path} reads process.env; take it from config.ts`);
}
