import { type Command, Option } from 'commander';
import { durationMs, functionName, OUTPUT_FORMATS, wholeNumber } from './arguments.js';
import type { Session } from './session.js';

const outputOption = () => new Option('-o, --output <format>', 'how to print').choices(OUTPUT_FORMATS).default('table');

/** `lambda schedule`: with a function it makes a schedule, and it has subcommands. */
export function addScheduleCommands(program: Command, session: Session): void {
  const schedule = program
    .command('schedule')
    .description(
      'run a function by itself, at the times that --cron says; and ls, get, pause, resume, run, rm, history',
    )
    .argument('<function>', "the function's name", functionName)
    .option('--cron <expression>', 'such as "0 * * * *", @daily, "rate(5 minutes)" or "cron(0 12 * * ? *)"')
    .option('--name <name>', "the schedule's name (default: that of its function)", functionName)
    .option('--time-zone <zone>', 'of the expression, such as Europe/Berlin (default: UTC)')
    .option('--payload <json|@file|->', 'the event; without one each event says which tick it is')
    .addOption(
      new Option('--overlap <what>', 'what a tick does while an earlier one runs').choices(['skip', 'queue', 'allow']),
    )
    .option('--catch-up <duration>', 'ticks up to this late are run (default: 1m)', durationMs)
    .option('--jitter <duration>', 'begin up to this much later, each tick otherwise', durationMs)
    .option('--disabled', 'paused from the start')
    .action(async (name, _options, command: Command) => {
      const { createSchedule } = await import('./commands/create-schedule.js');
      await createSchedule(session, name, command.optsWithGlobals());
    });
  schedule
    .command('ls')
    .alias('list')
    .description('list schedules')
    .option('--function <name>', 'of this function only', functionName)
    .option('--limit <count>', 'how many', wholeNumber(1, 1_000), 100)
    .addOption(outputOption())
    .action(async (_options, command: Command) => {
      const { listSchedules } = await import('./commands/schedules.js');
      await listSchedules(session, command.optsWithGlobals());
    });
  schedule
    .command('get')
    .description('show one schedule with its next runs')
    .argument('<schedule>', 'its name or id')
    .addOption(outputOption())
    .action(async (name, _options, command: Command) => {
      const { getSchedule } = await import('./commands/schedules.js');
      await getSchedule(session, name, command.optsWithGlobals());
    });
  for (const to of ['pause', 'resume'] as const) {
    schedule
      .command(to)
      .description(to === 'pause' ? 'take no ticks from now on' : 'take ticks again, from the next one on')
      .argument('<schedule...>', 'names or ids')
      .action(async (names, _options, command: Command) => {
        const { switchSchedules } = await import('./commands/schedules.js');
        await switchSchedules(session, names, to, command.optsWithGlobals());
      });
  }
  schedule
    .command('run')
    .description("run a schedule's function now and print the invocation's id")
    .argument('<schedule>', 'its name or id')
    .action(async (name, _options, command: Command) => {
      const { runSchedule } = await import('./commands/schedules.js');
      await runSchedule(session, name, command.optsWithGlobals());
    });
  schedule
    .command('rm')
    .alias('delete')
    .description('remove schedules')
    .argument('<schedule...>', 'names or ids')
    .action(async (names, _options, command: Command) => {
      const { removeSchedules } = await import('./commands/schedules.js');
      await removeSchedules(session, names, command.optsWithGlobals());
    });
  schedule
    .command('history')
    .description('what became of its ticks, newest first')
    .argument('<schedule>', 'its name or id')
    .option('--limit <count>', 'how many', wholeNumber(1, 1_000), 50)
    .addOption(new Option('-o, --output <format>', 'how to print').choices(['table', 'json']).default('table'))
    .action(async (name, _options, command: Command) => {
      const { scheduleHistory } = await import('./commands/schedules.js');
      await scheduleHistory(session, name, command.optsWithGlobals());
    });
}
