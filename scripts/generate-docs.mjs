/**
 * Writes the pages of `docs/` that are generated from code. Needs a build.
 *
 *   node scripts/generate-docs.mjs [folder]     default: docs
 */
import { writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { ERROR_RULES } from '../common/dist/errors.js';

const folder = process.argv[2] ?? resolve(import.meta.dirname, '../docs');
await writeFile(join(folder, 'errors.md'), errorsPage());

function errorsPage() {
  const rows = Object.entries(ERROR_RULES).map(
    ([code, { status, fault, retryable, meaning }]) =>
      `| \`${code}\` | ${status} | ${fault} | ${retryable ? 'yes' : 'no'} | ${meaning} |`,
  );
  return `# Error codes

Generated from [common/src/errors.ts](../common/src/errors.ts) by \`npm run generate\`; do not edit.

Every error of the HTTP API has the form \`{"error": {"code", "message", "requestId", "details"?}}\`. *Fault* is who has to act: the caller, the function's
author, or the operator of the platform. *Again*: whether the same request may succeed later without being changed.

| code | status | fault | again | meaning |
|---|---|---|---|---|
${rows.join('\n')}
`;
}
