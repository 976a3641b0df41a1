import { type Command, InvalidArgumentError, Option } from 'commander';
import { durationMs, OUTPUT_FORMATS, wholeNumber } from './arguments.js';
import type { Session } from './session.js';

const DEADLINE_MS = 3_600_000;

const outputOption = () => new Option('-o, --output <format>', 'how to print').choices(OUTPUT_FORMATS).default('table');
const labelOption = () =>
  new Option('-l, --label <key=value>', 'nodes with this label, repeatable').argParser(label).default([]);

/** What operators do with the machines of the fleet, into the group `node`. */
export function addNodeCommands(node: Command, session: Session): void {
  node
    .command('ls')
    .alias('list')
    .description('list the nodes')
    .addOption(labelOption())
    .addOption(outputOption())
    .action(async (_options, command: Command) => {
      const { listNodes } = await import('./commands/nodes.js');
      await listNodes(session, command.optsWithGlobals());
    });
  node
    .command('get')
    .description('show one node, its drain, its self-test and what happened to it')
    .argument('<node>', 'its id, or how it begins')
    .addOption(outputOption())
    .action(async (name, _options, command: Command) => {
      const { getNode } = await import('./commands/nodes.js');
      await getNode(session, name, command.optsWithGlobals());
    });
  for (const to of ['cordon', 'uncordon'] as const) {
    node
      .command(to)
      .description(to === 'cordon' ? 'give nodes no new work; what runs goes on' : 'give nodes work again')
      .argument('[node...]', 'ids, or how they begin')
      .addOption(labelOption())
      .action(async (names, _options, command: Command) => {
        const { switchNodes } = await import('./commands/nodes.js');
        await switchNodes(session, names, to, command.optsWithGlobals());
      });
  }
  node
    .command('drain')
    .description('empty nodes and wait until nothing is left on them; they stay cordoned')
    .argument('[node...]', 'ids, or how they begin')
    .addOption(labelOption())
    .option('--deadline <duration>', 'then what still runs is ended (default: 1h)', durationMs, DEADLINE_MS)
    .option('--no-deadline', 'wait for as long as it takes')
    .option('--force', 'although the checks refuse it')
    .option('--min-eligible <count>', 'only if so many eligible nodes are left', wholeNumber(0, 1_000_000), 0)
    .option('--dry-run', 'print the plan, and how long it takes at the latest')
    .option('--detach', 'do not wait')
    .option('--monitor', 'wait for drains that were started before')
    .option('-m, --message <text>', 'why, for the record')
    .option('-y, --yes', 'do not ask')
    .addOption(outputOption())
    .action(async (names, _options, command: Command) => {
      const { drainNodes } = await import('./commands/drain-nodes.js');
      process.exitCode = await drainNodes(session, names, command.optsWithGlobals());
    });
  node
    .command('undrain')
    .description('cancel drains, or end the state after them: the nodes take work again')
    .argument('[node...]', 'ids, or how they begin')
    .addOption(labelOption())
    .option('--keep-ineligible', 'they stay cordoned')
    .action(async (names, _options, command: Command) => {
      const { undrainNodes } = await import('./commands/nodes.js');
      await undrainNodes(session, names, command.optsWithGlobals());
    });
}

function label(text: string, before: readonly (readonly [string, string])[]): readonly (readonly [string, string])[] {
  const at = text.indexOf('=');
  if (at < 1) throw new InvalidArgumentError('It must have the form key=value.');
  return [...before, [text.slice(0, at), text.slice(at + 1)]];
}
