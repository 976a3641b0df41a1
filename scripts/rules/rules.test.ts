import { describe, expect, it } from 'vitest';
import { environmentReads } from './environment-reads.js';
import { longFiles, vagueNames } from './file-shape.js';
import { importDirectionViolations } from './import-direction.js';
import { importsOf } from './imports.js';
import { brokenLinks } from './markdown-links.js';
import { processBoundaryViolations } from './process-boundaries.js';
import { registryHosts } from './registry-hosts.js';
import { readSourceFiles, type SourceFile } from './source-files.js';

const repository = readSourceFiles();
const file = (path: string, text = ''): SourceFile => ({ path, text });

it('the rules see the whole repository', () => {
  const paths = repository.map(({ path }) => path);
  for (const path of ['ARCHITECTURE.md', 'control-plane/src/invocations/invoke.ts', '.ci/run', 'package-lock.json']) {
    expect(paths).toContain(path);
  }
  expect(paths.filter((path) => /node_modules|(^|\/)dist\//.test(path))).toEqual([]);
});

describe('only config.ts reads the environment', () => {
  it('holds', () => expect(environmentReads(repository).join('\n')).toBe(''));

  it.each([
    'const x = process.env.HOME;',
    "const x = process['env'].HOME;",
    "import { env } from 'node:process';",
    'const { env } = process;',
  ])('catches %s', (text) => {
    expect(environmentReads([file('node-agent/src/link/link.ts', text)])).toHaveLength(1);
  });

  it('lets config.ts, tests, comments and runtimes be', () => {
    const text = 'process.env.HOME';
    const allowed = [
      file('cli/src/config.ts', text),
      file('cli/src/up/up.test.ts', text),
      file('runtimes/node/src/boot.ts', text),
      file('cli/src/up/up.ts', `// ${text}\n/* ${text} */`),
    ];
    expect(environmentReads(allowed)).toEqual([]);
  });
});

describe('imports of the control plane run inwards', () => {
  it('holds', () => expect(importDirectionViolations(repository).join('\n')).toBe(''));

  it.each([
    ['control-plane/src/nodes/a.ts', '../scheduling/b.js'],
    ['control-plane/src/db/a.ts', '../functions/b.js'],
    ['control-plane/src/invocations/a.ts', '../http/b.js'],
    ['control-plane/src/http/a.ts', '../wiring.js'],
  ])('catches %s importing %s', (path, specifier) => {
    expect(importDirectionViolations([file(path, `import { b } from '${specifier}';`)])).toHaveLength(1);
  });

  it('catches a value from the file that any folder may import types from', () => {
    const from = "from '../invocations/invocation.js';";
    const [value, type] = [`import { b } ${from}`, `import type { B } ${from}`];
    expect(importDirectionViolations([file('control-plane/src/nodes/a.ts', value)])).toHaveLength(1);
    expect(importDirectionViolations([file('control-plane/src/nodes/a.ts', type)])).toEqual([]);
  });

  it('catches a folder without a layer', () => {
    expect(importDirectionViolations([file('control-plane/src/new-domain/a.ts')])).toHaveLength(1);
  });

  it('allows inward imports and wiring', () => {
    const allowed = [
      file('control-plane/src/http/a.ts', "import { b } from '../invocations/b.js';"),
      file('control-plane/src/wiring.ts', "import { b } from './db/b.js'; import { c } from './http/c.js';"),
    ];
    expect(importDirectionViolations(allowed)).toEqual([]);
  });
});

describe('no process imports the code of another', () => {
  it('holds', () => expect(processBoundaryViolations(repository).join('\n')).toBe(''));

  it.each([
    ['control-plane/src/a.ts', "import { b } from '@lambda-fleet/node-agent/b';"],
    ['node-agent/src/a.ts', "import { b } from '../../control-plane/src/b.js';"],
    ['cli/src/a.ts', "const b = await import('@lambda-fleet/control-plane/main');"],
    ['runtimes/node/src/a.ts', "export * from '@lambda-fleet/common/errors';"],
  ])('catches %s with %s', (path, text) => {
    expect(processBoundaryViolations([file(path, text)])).toHaveLength(1);
  });
});

describe('imports are found', () => {
  it('in every form', () => {
    const text = [
      "import 'a';",
      "import b from 'b';",
      "import type { c } from 'c';",
      "import {\n  d,\n  e,\n} from 'd';",
      "export * from 'e';",
      "export { f } from 'f';",
      "const g = await import('g');",
      'import * as h from "h";',
      "export type { i } from 'i';",
      "// import 'not';",
    ].join('\n');
    const imports = importsOf(file('a.ts', text));
    expect(imports.map(({ specifier }) => specifier)).toEqual(['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i']);
    expect(imports.filter(({ typeOnly }) => typeOnly).map(({ specifier }) => specifier)).toEqual(['c', 'i']);
  });
});

describe('a code file is about one thing', () => {
  it('none is too long', () => expect(longFiles(repository).join('\n')).toBe(''));
  it('none has a name that says nothing', () => expect(vagueNames(repository).join('\n')).toBe(''));

  it('catches a long file, except generated code and tests', () => {
    const text = 'x\n'.repeat(401);
    expect(longFiles([file('cli/src/a.ts', text)])).toHaveLength(1);
    expect(longFiles([file('proto/gen/a.ts', text), file('cli/src/a.test.ts', text)])).toEqual([]);
  });

  it.each(['cli/src/utils.ts', 'common/src/helpers/a.ts', 'cli/src/misc.ts'])('catches the name %s', (path) => {
    expect(vagueNames([file(path)])).toHaveLength(1);
  });
});

describe('no file names a package registry or mirror', () => {
  it('holds', () => expect(registryHosts(repository).join('\n')).toBe(''));

  it.each([['registry.npmjs', 'org'].join('.'), `https://mirror${'.example.net/debian'}`])('catches %s', (host) => {
    expect(registryHosts([file('package-lock.json', `"resolved": "${host}"`)])).toHaveLength(1);
  });
});

describe('links in documents lead somewhere', () => {
  it('holds', () => expect(brokenLinks(repository).join('\n')).toBe(''));

  it('catches a link to a file that is not there', () => {
    expect(brokenLinks([file('docs/a.md', '[b](../nowhere.md#part) and [c](../ARCHITECTURE.md)')])).toHaveLength(1);
  });

  it('lets addresses, anchors and code be', () => {
    expect(brokenLinks([file('a.md', '[a](https://a.example) [b](#b)\n```\n[c](d)\n```\n`[e](f)`')])).toEqual([]);
  });
});
