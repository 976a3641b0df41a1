import { relative } from 'node:path';

/**
 * @typedef {object} Tally
 * @property {number} passed
 * @property {{name: string, output: string}[]} failures
 */

/**
 * Counts a run of vitest from its JSON report.
 *
 * A file that could not be loaded counts as one failed test, so does a run that failed although every test passed
 * (an error outside of any test) or that found no test. A skipped test counts as failed too: a guarantee that was not
 * checked is none. Except when the caller chose tests by a filter, which makes vitest skip all others.
 *
 * @param {{report: any, ok: boolean, ended: string, output: string, filtered: boolean, root: string}} run
 *   `report` is undefined when vitest wrote none
 * @returns {Tally}
 */
export function tallyVitest({ report, ok, ended, output, filtered, root }) {
  if (report === undefined) {
    return { passed: 0, failures: [{ name: `vitest wrote no report (${ended})`, output: lastLines(output, 200) }] };
  }
  const failures = [];
  let passed = 0;
  for (const file of report.testResults) {
    const path = relative(root, file.name);
    const tests = file.assertionResults;
    const failuresBefore = failures.length;
    for (const test of tests) {
      const name = `${path} > ${[...test.ancestorTitles, test.title].join(' > ')}`;
      if (test.status === 'passed') passed += 1;
      else if (test.status === 'failed') failures.push({ name, output: (test.failureMessages ?? []).join('\n') });
      else if (!filtered) failures.push({ name, output: `The test did not run: it is marked "${test.status}".` });
    }
    if (file.status === 'failed' && failures.length === failuresBefore) {
      failures.push({ name: path, output: file.message || 'The file could not be loaded.' });
    }
  }
  if (failures.length === 0 && !ok) {
    failures.push({ name: `vitest ended with ${ended} though no test failed`, output: lastLines(output, 200) });
  }
  if (failures.length === 0 && passed === 0) failures.push({ name: 'no test ran', output: lastLines(output, 20) });
  return { passed, failures };
}

function lastLines(text, count) {
  return text.trimEnd().split('\n').slice(-count).join('\n');
}
