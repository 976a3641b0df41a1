import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Script } from 'node:vm';
import { Fault } from '../function-error.js';
import { syntaxPosition } from '../syntax-location.js';

const FILE = 'job.js';

/** Evaluates to the job, and runs nothing of it. */
const METHOD = { before: '({ async job(args) {', after: '\n} }).job' };
/**
 * What may follow a method never follows a function declaration: a body that compiles in both closes neither. One that did
 * would run as soon as it is evaluated.
 */
const DECLARATION = { before: 'async function job(args) {', after: '\n}' };

/** The keyword or name `import`, but not a part of a longer name. */
const IMPORT = /(?<![\p{ID_Continue}$#\u200c\u200d])import(?![\p{ID_Continue}$\u200c\u200d])/gu;

/**
 * Compiles a job without running it.
 *
 * @throws Fault Runtime.ImportModuleError or Runtime.UserCodeSyntaxError
 */
export async function compileJob(taskRoot: string): Promise<Script> {
  const body = readJob(join(taskRoot, FILE)).replace(/^#!/, '//');
  const job = await compiled(body, METHOD, taskRoot);
  await compiled(body, DECLARATION, taskRoot);
  await refuseImports(body, taskRoot);
  return job;
}

function readJob(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    throw new Fault('Runtime.ImportModuleError', `The job's code has no ${FILE}.`);
  }
}

/**
 * `import()` answers with a promise that the host rejects, with an error of the host's. No option of Node's prevents that, and
 * code cannot be made of text in a realm, so it is enough that the text has none. V8 is asked itself whether a word `import` is
 * in a comment, a string or a member's name: there, `export` may stand as well, and nowhere else in a function.
 */
async function refuseImports(body: string, taskRoot: string): Promise<void> {
  const exported = body.replace(IMPORT, 'export');
  if (exported === body) return;
  try {
    await compiled(exported, METHOD, taskRoot);
  } catch (thrown) {
    if (!(thrown instanceof Fault) || thrown.location === undefined) throw thrown;
    throw syntaxFault('import is not available in a job', thrown.location);
  }
}

async function compiled(body: string, { before, after }: typeof METHOD, taskRoot: string): Promise<Script> {
  try {
    return new Script(before + body + after, { filename: join(taskRoot, FILE), columnOffset: -before.length });
  } catch (thrown) {
    if (!(thrown instanceof SyntaxError)) throw thrown;
    const lines = body.split('\n');
    const end = { line: lines.length, column: (lines.at(-1)?.length ?? 0) + 1 };
    const position = (await syntaxPosition(thrown)) ?? end;
    // What V8 complains of behind the body is the wrapper's.
    throw position.line > end.line
      ? syntaxFault('Unexpected end of input', end)
      : syntaxFault(thrown.message, position);
  }
}

function syntaxFault(message: string, { line, column }: { readonly line: number; readonly column: number }): Fault {
  const location = { file: FILE, line, column };
  return new Fault('Runtime.UserCodeSyntaxError', `${message} (${FILE}:${line}:${column})`, location);
}
