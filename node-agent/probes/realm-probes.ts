import type { Ground } from './ground.js';
import type { Probe } from './probe.js';

/** Whoever gets hold of the process ends it with this status, which the host sees. */
const ESCAPED = 77;

const ESCAPE = `
  const leave = (process) => process.exit(${ESCAPED});
  const through = (value) => value.constructor.constructor('return process')();
  const thrown = [];
  try { null.x; } catch (error) { thrown.push(error); }
  try { (function dive() { dive(); })(); } catch (error) { thrown.push(error); }
  try { console.log({ get x() { throw 1; } }); } catch (error) { thrown.push(error); }
  const values = [args, args.list, console, console.log, setTimeout, setTimeout(() => {}), sleep, Promise.resolve(), sleep(1), globalThis,
    async () => {}, function* () {}, ...thrown];
  for (const value of values) {
    try { leave(through(value)); } catch {}
    try { leave(through(Object.getPrototypeOf(value))); } catch {}
  }
  for (const name of ['process', 'globalThis.process', 'require("process")', 'module.require("process")', 'this.constructor.constructor("return process")()']) {
    try { leave((0, eval)(name)); } catch {}
  }
  try { leave(process); } catch {}
  try { leave(require('node:process')); } catch {}
  Error.prepareStackTrace = (_, frames) => frames;
  try { for (const frame of new Error().stack) leave(frame.getThis().process); } catch {}
  return 'contained';`;

/** Alone, because a text with it is not even compiled. */
const IMPORT = `const { default: process } = await import('node:process'); process.exit(${ESCAPED});`;

export const realmProbes: readonly Probe[] = [
  {
    name: 'a job’s realm has nothing of Node',
    area: 'realm',
    attempt:
      'looks for `process` behind every object that it is given, through constructors, errors, promises, timers, stack frames and imports, and exits',
    judge:
      'the sandbox does not end with the status that it exits with; many more ways are tried by `runtimes/realm-escapes.test.ts`',
    async run(ground) {
      const ends = [await runJob(ground, ESCAPE), await runJob(ground, IMPORT)];
      return ends.flatMap(({ error }) =>
        error?.errorMessage.endsWith(`exit status ${ESCAPED}`) ? ['it got hold of the process'] : [],
      );
    },
    withoutDefence: {
      removed: 'the realm: the same text is a function',
      isolations: ['runc', 'gvisor'],
    },
  },
  {
    name: 'a job that never lets go is ended from outside',
    area: 'realm',
    slow: true,
    attempt: 'waits for settled promises without end, which no time limit inside of the process interrupts',
    judge: 'the error is `Sandbox.Timedout`',
    async run(ground) {
      const end = await runJob(ground, 'for (;;) await null;');
      return end.error?.errorType === 'Sandbox.Timedout' ? [] : [`it ended with ${end.error?.errorType ?? end.text}`];
    },
  },
];

async function runJob(ground: Ground, text: string) {
  const timeoutMs = 1_000;
  const spec = ground.unprotected
    ? await ground.deploy(
        { 'job.js': `const sleep = async () => {}; exports.handler = async (args) => {${text}};` },
        { handler: 'job.handler', timeoutMs },
      )
    : await ground.deploy({ 'job.js': text }, { realm: 'vm', timeoutMs });
  return ground.call(spec, { event: { list: [1] }, singleUse: true });
}
