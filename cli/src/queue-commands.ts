import { type Command, Option } from 'commander';
import { functionName, OUTPUT_FORMATS, wholeNumber } from './arguments.js';
import type { Session } from './session.js';

const CONDITIONS = ['RetriesExhausted', 'EventAgeExceeded', 'NodesLost', 'FunctionGone'] as const;

const conditionOption = () =>
  new Option('--condition <condition>', 'only those that were given up because of this').choices(CONDITIONS);
const outputOption = () =>
  new Option('-o, --output <format>', 'how to print').choices(['table', 'json']).default('table');

/** `lambda replay`: an execution's event, once more. */
export function addReplayCommand(program: Command, session: Session): void {
  program
    .command('replay')
    .description('run a function again with the event of an execution, and print the id of the new one')
    .argument('<id>', 'of the execution')
    .option(
      '--on-version <number>',
      'run this version of the function (default: the newest)',
      wholeNumber(1, 2 ** 31 - 1),
    )
    .action(async (id, _options, command: Command) => {
      const { replayExecution } = await import('./commands/replay.js');
      await replayExecution(session, id, command.optsWithGlobals());
    });
}

/** `lambda queue`: async invocations that wait, run, or were given up. */
export function addQueueCommands(program: Command, session: Session): void {
  const queue = program
    .command('queue')
    .description('async invocations that wait, run or were given up: ls, status, get, retry, purge, cancel');
  queue
    .command('ls')
    .alias('list')
    .description('list dead letters, newest first: what was given up')
    .option('--function <name>', 'of this function only', functionName)
    .addOption(conditionOption())
    .option('--limit <count>', 'how many', wholeNumber(1, 1_000), 50)
    .addOption(new Option('-o, --output <format>', 'how to print').choices(OUTPUT_FORMATS).default('table'))
    .action(async (_options, command: Command) => {
      const { listDeadLetters } = await import('./commands/queue.js');
      await listDeadLetters(session, command.optsWithGlobals());
    });
  queue
    .command('status')
    .description('how much is queued, and for which functions')
    .addOption(outputOption())
    .action(async (_options, command: Command) => {
      const { queueStatus } = await import('./commands/queue.js');
      await queueStatus(session, command.optsWithGlobals());
    });
  queue
    .command('get')
    .description('show one async invocation: a dead letter with its event, or one that is queued, runs or has ended')
    .argument('<id>', 'of the invocation')
    .addOption(outputOption())
    .action(async (id, _options, command: Command) => {
      const { getQueued } = await import('./commands/get-queued.js');
      await getQueued(session, id, command.optsWithGlobals());
    });
  addSelection(queue.command('retry'), 'queue dead letters again, as new invocations, and print their ids').action(
    async (ids, _options, command: Command) => {
      const { retryDeadLetters } = await import('./commands/dead-letters.js');
      await retryDeadLetters(session, ids, command.optsWithGlobals());
    },
  );
  addSelection(queue.command('purge'), 'throw dead letters away for good')
    .option('-y, --yes', 'do not ask')
    .action(async (ids, _options, command: Command) => {
      const { purgeDeadLetters } = await import('./commands/dead-letters.js');
      await purgeDeadLetters(session, ids, command.optsWithGlobals());
    });
  queue
    .command('cancel')
    .description('take queued invocations out of the queue, and stop those that run')
    .argument('<id...>', 'of invocations')
    .action(async (ids, _options, command: Command) => {
      const { cancelQueued } = await import('./commands/queue.js');
      await cancelQueued(session, ids, command.optsWithGlobals());
    });
}

function addSelection(command: Command, description: string): Command {
  return command
    .description(description)
    .argument('[id...]', 'of dead letters; else say which with an option')
    .option('--function <name>', 'all of this function', functionName)
    .addOption(conditionOption())
    .option('--all', 'all there are');
}
