import { type Command, InvalidArgumentError, Option } from 'commander';
import { durationMs, OUTPUT_FORMATS } from './arguments.js';
import type { Session } from './session.js';

const EXPIRES_MINUTES_MAX = 15;

/** `lambda node join-token` and `lambda node rm`: how machines come in and are cut off. */
export function addJoinCommands(node: Command, session: Session): void {
  node
    .command('join-token')
    .description('make a token that lets one machine join, and print it: it is shown this once')
    .option('--node <id>', 'for this id only, also when a node has it: a machine that is set up again')
    .option('--expires <duration>', 'how long it works, at most 15m', expiryMinutes, EXPIRES_MINUTES_MAX)
    .addOption(new Option('-o, --output <format>', 'how to print').choices(OUTPUT_FORMATS).default('table'))
    .action(async (_options, command: Command) => {
      const { createJoinToken } = await import('./commands/join.js');
      await createJoinToken(session, command.optsWithGlobals());
    });
  node
    .command('rm')
    .alias('delete')
    .description('remove nodes: their sessions end now, and their certificates count no more')
    .argument('<id...>', 'ids of nodes')
    .option('-y, --yes', 'do not ask')
    .action(async (ids, _options, command: Command) => {
      const { removeNodes } = await import('./commands/join.js');
      await removeNodes(session, ids, command.optsWithGlobals());
    });
}

/** Whole minutes. */
function expiryMinutes(text: string): number {
  const minutes = durationMs(text) / 60_000;
  if (Number.isInteger(minutes) && minutes >= 1 && minutes <= EXPIRES_MINUTES_MAX) return minutes;
  throw new InvalidArgumentError(`It must be 1m to ${EXPIRES_MINUTES_MAX}m, in whole minutes.`);
}
