import { type Command, Option } from 'commander';
import { functionName, wholeNumber } from './arguments.js';
import { LIMIT_MAX } from './project/concurrency-settings.js';
import type { Session } from './session.js';

/** `lambda concurrency`: how often a function may run at once. */
export function addConcurrencyCommand(program: Command, session: Session): void {
  program
    .command('concurrency')
    .description('show how often a function may run at once, or change it')
    .argument('<function>', "the function's name", functionName)
    .option(
      '--reserved <count>',
      'keep so many for it, and let it have no more; 0 switches it off',
      wholeNumber(0, LIMIT_MAX),
    )
    .option('--no-reserved', 'keep none for it')
    .option('--maximum <count>', 'let it have no more', wholeNumber(1, LIMIT_MAX))
    .option('--no-maximum', 'no limit of its own')
    .addOption(new Option('--clear', 'take both away').conflicts(['reserved', 'maximum']))
    .addOption(new Option('-o, --output <format>', 'how to print').choices(['table', 'json']).default('table'))
    .action(async (name, _options, command: Command) => {
      const { concurrencySettings } = await import('./commands/concurrency-settings.js');
      await concurrencySettings(session, name, command.optsWithGlobals());
    });
}
