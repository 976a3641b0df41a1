import { type Command, Option } from 'commander';
import { ageMs, delaysMs, destination, functionName, wholeNumber } from './arguments.js';
import type { Session } from './session.js';

/** `lambda async`: how a function's async invocations are tried. */
export function addAsyncCommand(program: Command, session: Session): void {
  program
    .command('async')
    .description("show how a function's async invocations are tried and where their ends are sent, or change it")
    .argument('<function>', "the function's name", functionName)
    .option('--retries <count>', 'attempts after the first one when the function fails', wholeNumber(0, 5))
    .option('--retry-delays <durations>', 'before each of them, such as 1s,10s; the last one repeats', delaysMs)
    .option('--max-age <duration>', 'older ones are not begun any more', ageMs)
    .option('--on-success <destination>', 'where a success is sent: fn:<function> or https://…', destination)
    .option('--no-on-success', 'send it nowhere')
    .option('--on-failure <destination>', 'where what was given up is sent: fn:<function> or https://…', destination)
    .option('--no-on-failure', 'send it nowhere')
    .addOption(new Option('-o, --output <format>', 'how to print').choices(['table', 'json']).default('table'))
    .action(async (name, _options, command: Command) => {
      const { asyncSettings } = await import('./commands/async-settings.js');
      await asyncSettings(session, name, command.optsWithGlobals());
    });
}
