import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { ConformanceAgent, frameBytes, type ReceivedFrame } from './conformance-agent.js';
import { buildRuntime, runtimeFile } from './node/build.mjs';

/**
 * Ways out of a job's realm that were found to work, or were worth a try. Each probe is a job that answers `contained`, or
 * with what it got hold of. Where one defence is all that holds it, the probe also runs against the runtime with
 * that defence taken out, and has to get out: a probe that cannot fail proves nothing.
 */
interface Escape {
  readonly name: string;
  readonly probe: readonly string[];
  /** Replacements in the runtime's text that take the defence out; none where several would have to fall. */
  readonly without?: readonly (readonly [string, string])[];
}

const TEST_DEADLINE_MS = 30_000;

/** What a probe may use: `version(value)` is the host's version of Node when `value` leads to it. */
const TOOLS = `
const version = (value) => {
  try { return value.constructor.constructor('return process')().version; } catch { return undefined; }
};
const isForeign = (value) =>
  ((typeof value === 'object' && value !== null) || typeof value === 'function') && !(value instanceof Object);
`;

const ESCAPES: readonly Escape[] = [
  {
    name: 'an error of the host, when printing runs out of stack',
    probe: [
      'let found; let tries = 500;',
      'const dive = () => {',
      '  try { dive(); } catch {',
      '    if (tries-- > 0) try { console.log("x"); } catch (thrown) { if (isForeign(thrown)) found ??= version(thrown); }',
      '    throw 1;',
      '  }',
      '};',
      'try { dive(); } catch {}',
      'return found ?? "contained";',
    ],
    without: [['    } catch {\n    }\n  };', '    } finally {\n    }\n  };']],
  },
  {
    name: "the host's function that prints, were it given out",
    probe: ['return typeof leaked === "undefined" ? "contained" : version(leaked) ?? "no way from it";'],
    without: [
      ['= makeConsole(print);', '= (globalThis.leaked = print, makeConsole(print));'],
      ['Object.freeze(Object.setPrototypeOf(guarded, null))', 'guarded'],
    ],
  },
  {
    name: 'code made of text',
    probe: [
      'const found = [];',
      'const makers = [(() => {}), async () => {}, function* () {}, async function* () {}].map(({ constructor }) => constructor);',
      'for (const make of [...makers, globalThis.eval]) {',
      '  try { make("1"); found.push(make.name); } catch (thrown) { if (!(thrown instanceof EvalError)) found.push(String(thrown)); }',
      '}',
      'return found.join() || "contained";',
    ],
    without: [['strings: false', 'strings: true']],
  },
  {
    name: 'WebAssembly',
    probe: [
      'try { return typeof new WebAssembly.Module(new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0])); }',
      'catch { return "contained"; }',
    ],
    without: [
      ['"WebAssembly", ', ''],
      ['wasm: false', 'wasm: true'],
    ],
  },
  ...[
    "import('node:fs')",
    "import /* a */ // b\n ('node:fs')",
    "import <!-- c\n ('node:fs')",
    // biome-ignore lint/suspicious/noTemplateCurlyInString: it is the probe's own template
    "{ toString: () => {}, a: `${import('node:fs')}`, ...import('node:fs') } && import('node:fs')",
    "(() => { 'use strict'; return import('node:fs'); })()",
    "[`}`, /import('x')/, import('node:fs')].at(-1)",
  ].map((source) => ({
    name: `the error of ${JSON.stringify(source)}`,
    probe: [
      'let found;',
      `try { await (${source}); found = 'a module'; } catch (thrown) { found = version(thrown); }`,
      'return found ?? "contained";',
    ],
    without: [['await refuseImports(body, taskRoot);', '']] as const,
  })),
  { name: 'import.meta', probe: ['return version(import.meta) ?? "contained";'] },
  {
    name: 'arguments that the host has parsed',
    probe: ['return version(args) ?? "contained";'],
    without: [
      ['start(job.runInContext(realm), args)', 'start(job.runInContext(realm), JSON.parse(args))'],
      ['args === "" ? {} : parse(args)', 'args'],
    ],
  },
  {
    name: 'the object that stands behind the globals of a context',
    probe: ['return version(globalThis) ?? version(this) ?? "contained";'],
    without: [['import_node_vm2.constants.DONT_CONTEXTIFY', '{}']],
  },
  {
    name: 'functions of the host that wait for a promise of the job',
    probe: [
      'let found;',
      'const { then } = Promise.prototype;',
      'Promise.prototype.then = function (...callbacks) {',
      '  for (const callback of callbacks) if (isForeign(callback)) found ??= version(callback);',
      '  return then.call(this, ...callbacks);',
      '};',
      'await sleep(5);',
      'return found ?? "contained";',
    ],
    without: [
      ['start: (job, args) => void start(job, args)', 'start'],
      ['start(job.runInContext(realm), args);', 'void start(job.runInContext(realm), args).then(() => {}, () => {});'],
    ],
  },
  {
    name: "the host's own printing of a rejection that nobody handled",
    probe: [
      'Promise.reject({',
      '  contained: true,',
      '  [Symbol.for("nodejs.util.inspect.custom")]: (...given) => String(given.map(version).find((found) => found)),',
      '});',
      'await sleep(1000);',
    ],
    without: [['this.#job?.takesRejection(reason2, promise)', 'false']],
  },
  {
    name: 'the stack, as it is prepared',
    probe: [
      'const found = [];',
      'const look = (error, sites) => {',
      '  for (const site of [sites, ...sites]) {',
      '    if (isForeign(site)) found.push("a site");',
      '    for (const name of ["getThis", "getFunction"]) {',
      '      const value = site[name]?.();',
      '      if (isForeign(value)) found.push(name);',
      '    }',
      '  }',
      '};',
      'Error.prepareStackTrace = look;',
      'void new Error("a").stack;',
      'setTimeout(() => void new Error("b").stack, 1);',
      'await sleep(5);',
      'globalThis.Error = { prepareStackTrace: look };',
      'try { null.x; } catch (thrown) { void thrown.stack; }',
      'const { stack } = new RangeError("c");',
      'return found.join() || "contained";',
    ],
  },
  {
    name: 'callers',
    probe: [
      'const found = [];',
      'function look() {',
      '  for (let f = look, n = 0; f && n < 20; n += 1) {',
      '    try { f = f.caller; } catch { return; }',
      '    if (isForeign(f)) found.push(String(f));',
      '  }',
      '}',
      'look(); setTimeout(look, 1); queueMicrotask(look); await sleep(5);',
      'console.log({ get x() { look(); } }, new Proxy({}, { getPrototypeOf() { look(); return null; } }));',
      'return { toJSON() { look(); return found.join() || "contained"; } };',
    ],
  },
  {
    name: 'everything that can be reached from the globals',
    probe: [
      'const seen = new Set(); const queue = [["globalThis", globalThis]]; const found = [];',
      'for (const [path, value] of queue) {',
      '  if ((typeof value !== "object" || value === null) && typeof value !== "function") continue;',
      '  if (seen.has(value)) continue;',
      '  seen.add(value);',
      '  const own = value === Object.prototype || path.endsWith("unscopables)") || value instanceof Object;',
      '  if (!own) found.push(path);',
      '  queue.push([path + ".__proto__", Object.getPrototypeOf(value)]);',
      '  for (const key of Reflect.ownKeys(value)) {',
      '    const descriptor = Object.getOwnPropertyDescriptor(value, key);',
      '    for (const part of ["value", "get", "set"]) queue.push([path + "." + String(key), descriptor[part]]);',
      '  }',
      '}',
      'return found.join() || (seen.size > 500 ? "contained" : "looked at too little");',
    ],
    without: [['const globals = {', 'globalThis.leaked = print;\n  const globals = {']],
  },
  {
    name: "marks of the host's asynchronous contexts on promises",
    probe: [
      'const marks = (promise) => Object.getOwnPropertySymbols(promise).map(String);',
      'const chained = sleep(1).then(() => 1);',
      'await chained;',
      'return [...marks(chained), ...marks((async () => {})())].join() || "contained";',
    ],
  },
];

let folder = '';
let agent: ConformanceAgent | undefined;

beforeAll(async () => {
  await buildRuntime();
  folder = mkdtempSync(join(tmpdir(), 'lambda-realm-'));
});

afterEach(async () => {
  await agent?.close();
  agent = undefined;
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

for (const { name, probe, without } of ESCAPES) {
  test(
    `${name}: is contained`,
    async () => {
      const frame = await run(probe, runtimeFile);
      if (frame.type === 'INIT_ERROR') {
        expect(frame.meta.errorType).toBe('Runtime.UserCodeSyntaxError');
      } else {
        expect(outcome(frame)).toContain('contained');
      }
    },
    TEST_DEADLINE_MS,
  );

  if (without !== undefined) {
    test(
      `${name}: gets out without its defence`,
      async () => {
        const frame = await run(probe, weakened(without));
        expect(frame.type).not.toBe('INIT_ERROR');
        expect(outcome(frame)).not.toContain('contained');
      },
      TEST_DEADLINE_MS,
    );
  }
}

function outcome(frame: ReceivedFrame): string {
  return frame.type === 'RESPONSE' ? frame.body.toString() : String(frame.meta.errorMessage);
}

/** The runtime without some of its text. */
function weakened(replacements: readonly (readonly [string, string])[]): string {
  let text = readFileSync(runtimeFile, 'utf8');
  for (const [part, replacement] of replacements) {
    expect(text.split(part), `the runtime holds this once: ${part}`).toHaveLength(2);
    text = text.replace(part, () => replacement);
  }
  const file = join(folder, `runtime-${String(Math.random()).slice(2)}.cjs`);
  writeFileSync(file, text);
  return file;
}

/** The INIT_ERROR, RESPONSE or ERROR of a job. */
async function run(probe: readonly string[], program: string): Promise<ReceivedFrame> {
  agent = await ConformanceAgent.start('nodejs', { 'job.js': [TOOLS, ...probe] }, 'socket', {
    program: [process.execPath, program],
  });
  await agent.nextFrame();
  const names = { handler: 'x.y', functionName: 'f', functionVersion: '1', functionArn: 'a', memoryMb: 128 };
  const rest = { timeoutMs: 1, environment: {}, logGroup: 'g', logStream: 's', concurrency: 1, realm: 'vm' };
  agent.send(frameBytes('INIT', { ...names, ...rest }));
  const initialised = await agent.nextFrame();
  if (initialised.type !== 'READY') return initialised;
  const invoke = { id: 'probe', deadlineMs: 0, arn: 'a', traceId: '', clientContext: '', http: false };
  agent.send(frameBytes('INVOKE', invoke, Buffer.from('{"a":1}')));
  for (;;) {
    const frame = await agent.nextFrame();
    if (frame.type !== 'LOG') return frame;
  }
}
