/**
 * `npm run test:faults [-- --write] [filters]`: breaks whole systems in every way that there is a test for, and prints what
 * came of it as a table. With `--write` the table becomes docs/faults.md.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { SHOWN_ELSEWHERE } from './faults/shown-elsewhere.mjs';

const root = resolve(import.meta.dirname, '..');
const { values, positionals } = parseArgs({ options: { write: { type: 'boolean' } }, allowPositionals: true });
const folder = await mkdtemp(join(tmpdir(), 'lambda-faults-'));
try {
  const report = join(folder, 'rows');
  await writeFile(report, '');
  const test = spawn(process.execPath, ['scripts/test.mjs', '--only', 'build,faults', ...positionals], {
    cwd: root,
    env: { ...process.env, LAMBDA_FAULTS_REPORT: report },
    stdio: 'inherit',
  });
  for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => test.kill(signal));
  const [status] = await once(test, 'exit');
  const rows = (await readFile(report, 'utf8')).split('\n').filter((line) => line !== '');
  const page = faultsPage(rows.map((row) => JSON.parse(row)));
  process.stdout.write(`\n${page}`);
  if (values.write === true && status === 0) await writeFile(join(root, 'docs/faults.md'), page);
  process.exitCode = status ?? 1;
} finally {
  await rm(folder, { recursive: true, force: true });
}

function faultsPage(rows) {
  const lines = rows.map(({ fault, how, verdict, seen = '' }) => {
    const { accepted, succeeded, dead, rerun, lost, overrun, overlapping, syncCalls, syncFailed, syncTwice } = verdict;
    const answers = Object.entries(verdict.syncAnswers).map(([what, count]) => `${count} × ${what}`);
    const wrong = lost.length + overrun.length + overlapping.length + syncTwice.length + verdict.ended.length;
    return `| ${[
      ...[fault, how, accepted, succeeded, dead, rerun, lost.length, syncCalls],
      ...[
        syncFailed === 0 ? '0' : `${syncFailed} (${answers.join(', ')})`,
        wrong === 0 ? 'holds' : `**${wrong} wrong**`,
        seen,
      ],
    ].join(' | ')} |`;
  });
  return `# Faults

What was broken, and what came of it. Written by \`npm run test:faults -- --write\`, which breaks real processes on one machine; do not edit.

Each row is a load of sync and async calls on two or more control planes and agents, while the fault happens. *Accepted*: async calls that got a 202. Each of
them has to end as a success or in the dead letters. *Re-run*: those that were run more than once, each time under another epoch. *Failed*: sync calls that did not
succeed, with what their callers were told. The oracle holds when nothing was lost, nothing ran more often than it has epochs, no two runs of one id
overlapped, no sync call ran twice, and no process ended by itself.

| fault | how | accepted | succeeded | dead | re-run | lost | sync calls | failed | oracle | |
|---|---|---|---|---|---|---|---|---|---|---|
${lines.join('\n')}

Other faults have tests of their own, which \`npm test\` runs:

| fault | test |
|---|---|
${SHOWN_ELSEWHERE.map(([fault, file, name]) => `| ${fault} | [${file}](../${file}): ${name}… |`).join('\n')}
`;
}
