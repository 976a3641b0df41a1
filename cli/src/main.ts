import { Command, CommanderError, Option } from 'commander';
import {
  budgetMs,
  durationMs,
  environmentEntry,
  functionName,
  idempotencyKey,
  OUTPUT_FORMATS,
  pastTime,
  wholeNumber,
} from './arguments.js';
import { addAsyncCommand } from './async-command.js';
import { CliError } from './cli-error.js';
import { addConcurrencyCommand } from './concurrency-command.js';
import { readConfig } from './config.js';
import { EXIT } from './exit-codes.js';
import { addJoinCommands } from './join-commands.js';
import { addNodeCommands } from './node-commands.js';
import { Output } from './output.js';
import { addQueueCommands, addReplayCommand } from './queue-commands.js';
import { addScheduleCommands } from './schedule-commands.js';
import { Session } from './session.js';

/**
 * Runs `lambda` with these arguments and sets the exit status.
 *
 * Each command's code is imported when it is chosen: starting costs little more than Node itself.
 */
export async function run(args: readonly string[]): Promise<void> {
  const config = readConfig();
  const output = new Output(process.stdout, process.stderr, config.noColor);
  const session = new Session(config, output, process.cwd());
  try {
    await buildProgram(session).parseAsync(args, { from: 'user' });
  } catch (err) {
    process.exitCode = report(err, output);
  }
}

function report(err: unknown, output: Output): number {
  if (err instanceof CommanderError) {
    // Commander has written its message; help and version are no errors.
    return err.exitCode === 0 ? EXIT.ok : EXIT.usage;
  }
  if (err instanceof CliError) {
    output.error(err.message, err.next);
    if ('requestId' in err && err.exitCode === EXIT.error) output.note(`  request ${String(err.requestId)}`);
    return err.exitCode;
  }
  // Anything else is a fault of this program or of the machine: its stack is what helps.
  output.error(err instanceof Error ? (err.stack ?? err.message) : String(err));
  return EXIT.error;
}

function buildProgram(session: Session): Command {
  const program = new Command('lambda')
    .description('Run functions on your own machines.')
    .version('0.1.0', '-V, --version')
    .option('--endpoint <url>', "the server's URL (LAMBDA_ENDPOINT)")
    .option('--api-key <key>', 'the API key (LAMBDA_API_KEY)')
    .configureHelp({ showGlobalOptions: true })
    .configureOutput({
      writeOut: (text) => {
        session.output.data(text).catch((err: unknown) => {
          process.exitCode = report(err, session.output);
        });
      },
      writeErr: (text) => session.output.note(text.trimEnd()),
    })
    .showHelpAfterError('(lambda --help lists the commands)')
    .exitOverride();
  addFunctionCommands(program, session);
  addExecutionCommands(program, session);
  addJobCommands(program, session);
  addAsyncCommand(program, session);
  addConcurrencyCommand(program, session);
  addQueueCommands(program, session);
  addReplayCommand(program, session);
  addScheduleCommands(program, session);
  addNodeGroup(program, session);
  addUp(program, session);
  addAgentCommands(program, session);
  return program;
}

const outputOption = () => new Option('-o, --output <format>', 'how to print').choices(OUTPUT_FORMATS).default('table');

function addFunctionCommands(program: Command, session: Session): void {
  program
    .command('deploy')
    .description('upload a folder or an archive as a function, build it if it has a Dockerfile, and print its URL')
    .argument('[folder]', 'a folder, a .zip or a .tar.gz', '.')
    .option('--name <name>', "the function's name (lambda.json, else the folder's name)", functionName)
    .option('--runtime <runtime>', 'nodejs, python, an exact version such as nodejs20.x, or image')
    .option('--handler <handler>', 'file and export, for example index.handler')
    .option('--memory <megabytes>', 'memory limit', wholeNumber(64, 10_240))
    .option('--timeout <duration>', 'longest run, for example 30s or 500ms', durationMs)
    .option('--public', 'let HTTP callers in without an API key')
    .option('-e, --env <KEY=VALUE>', 'an environment variable of the function, repeatable', environmentEntry)
    .action(async (folder, _options, command: Command) => {
      const { deploy } = await import('./commands/deploy.js');
      await deploy(session, folder, command.optsWithGlobals());
    });
  program
    .command('invoke')
    .description('run a function and print what it returns')
    .argument('<name>', "the function's name", functionName)
    .option('-d, --data <json|@file|->', 'the event; @file reads a file, - reads standard input')
    .option('--deadline <duration>', 'how long to wait for the answer', budgetMs)
    .option(
      '--idempotency-key <key>',
      'run this once: the same command with the same key gets the same answer',
      idempotencyKey,
    )
    .option('-v, --verbose', 'print the receipt on standard error')
    .option('--async', 'queue it, and print its id instead: it runs, with retries, whatever fails meanwhile')
    .action(async (name, _options, command: Command) => {
      const options = command.optsWithGlobals();
      if (options.async === true) {
        const { invokeAsync } = await import('./commands/invoke-async.js');
        await invokeAsync(session, name, options);
      } else {
        const { invoke } = await import('./commands/invoke.js');
        await invoke(session, name, options);
      }
    });
  program
    .command('logs')
    .description("print a function's log lines")
    .argument('<name>', "the function's name", functionName)
    .option('-f, --follow', 'go on with new lines as they come')
    .option('--since <duration|time>', 'only lines since then, for example 10m', pastTime)
    .option('--search <text>', 'only lines that hold this text')
    .option('--request-id <id>', 'only lines of this invocation')
    .option('--limit <count>', 'how many of the newest lines', wholeNumber(1, 10_000), 100)
    .option('--raw', "keep the terminal's escape sequences")
    .addOption(new Option('-o, --output <format>', 'how to print').choices(['table', 'json']).default('table'))
    .action(async (name, _options, command: Command) => {
      const { logs } = await import('./commands/logs.js');
      await logs(session, name, command.optsWithGlobals());
    });
  program
    .command('ls')
    .alias('list')
    .description('list the functions')
    .addOption(outputOption())
    .action(async (_options, command: Command) => {
      const { listFunctions } = await import('./commands/functions.js');
      await listFunctions(session, command.optsWithGlobals());
    });
  program
    .command('get')
    .description('show one function')
    .argument('<name>', "the function's name", functionName)
    .addOption(outputOption())
    .action(async (name, _options, command: Command) => {
      const { getFunction } = await import('./commands/functions.js');
      await getFunction(session, name, command.optsWithGlobals());
    });
  program
    .command('rm')
    .alias('delete')
    .description('remove functions')
    .argument('<name...>', 'names of functions')
    .option('-y, --yes', 'do not ask')
    .action(async (names, _options, command: Command) => {
      const { removeFunctions } = await import('./commands/functions.js');
      await removeFunctions(session, names, command.optsWithGlobals());
    });
}

function addExecutionCommands(program: Command, session: Session): void {
  const executions = program.command('executions').description('what ran: ls, get, logs');
  executions
    .command('ls')
    .alias('list')
    .description('list executions, newest first')
    .option('--function <name>', 'of this function only', functionName)
    .option('--status <status>', 'succeeded, failed, timed_out, throttled, not_started or unknown')
    .option('--outcome <outcome>', 'the same in the words of an invocation, for example function_error')
    .option('--trigger <trigger>', 'what caused it, for example api or http')
    .option('--since <duration|time>', 'only those since then, for example 10m', pastTime)
    .option('--until <duration|time>', 'only those before then', pastTime)
    .option('--limit <count>', 'how many', wholeNumber(1, 1_000), 50)
    .addOption(outputOption())
    .action(async (_options, command: Command) => {
      const { listExecutions } = await import('./commands/executions.js');
      await listExecutions(session, command.optsWithGlobals());
    });
  executions
    .command('get')
    .description('show one execution: where its time went, its error, its input and output')
    .argument('<id>', "the execution's id")
    .addOption(outputOption())
    .action(async (id, _options, command: Command) => {
      const { getExecution } = await import('./commands/executions.js');
      await getExecution(session, id, command.optsWithGlobals());
    });
  executions
    .command('logs')
    .description("print one execution's log lines")
    .argument('<id>', "the execution's id")
    .addOption(new Option('-o, --output <format>', 'how to print').choices(['table', 'json']).default('table'))
    .action(async (id, _options, command: Command) => {
      const { executionLogs } = await import('./commands/executions.js');
      await executionLogs(session, id, command.optsWithGlobals());
    });
}

function addJobCommands(program: Command, session: Session): void {
  const jobs = program.command('jobs').description('code that runs once: run, ls, get, logs, cancel');
  jobs
    .command('run')
    .description('run a file once in a sandbox of its own and print the job id')
    .argument('<file>', 'JavaScript or Python source; - reads standard input')
    .option('--args <json|@file|->', 'what the code finds as args')
    .option('--runtime <runtime>', "nodejs, python, or an exact version (default: by the file's name)")
    .option('--timeout <duration>', 'longest run, for example 30s or 500ms', budgetMs)
    .option('--memory <megabytes>', 'memory limit', wholeNumber(64, 10_240))
    .option('--retries <count>', 'how often it may run again after a failure', wholeNumber(0, 5))
    .option('--wait', 'wait for the end and print the result; log lines go to standard error')
    .option(
      '--idempotency-key <key>',
      'run this once: the same command with the same key gets the same answer',
      idempotencyKey,
    )
    .option('--deadline <duration>', 'how long to wait', budgetMs)
    .action(async (file, _options, command: Command) => {
      const { runJob } = await import('./commands/run-job.js');
      await runJob(session, file, command.optsWithGlobals());
    });
  jobs
    .command('ls')
    .alias('list')
    .description('list jobs, newest first')
    .option('--status <status>', 'with this status only, for example failed')
    .option('--limit <count>', 'how many', wholeNumber(1, 1_000), 50)
    .addOption(outputOption())
    .action(async (_options, command: Command) => {
      const { listJobs } = await import('./commands/jobs.js');
      await listJobs(session, command.optsWithGlobals());
    });
  jobs
    .command('get')
    .description('show one job with its result and receipt')
    .argument('<id>', "the job's id")
    .addOption(outputOption())
    .action(async (id, _options, command: Command) => {
      const { getJob } = await import('./commands/jobs.js');
      await getJob(session, id, command.optsWithGlobals());
    });
  jobs
    .command('logs')
    .description("print one job's log lines, of all its attempts")
    .argument('<id>', "the job's id")
    .action(async (id, _options, command: Command) => {
      const { jobLogs } = await import('./commands/jobs.js');
      await jobLogs(session, id, command.optsWithGlobals());
    });
  jobs
    .command('cancel')
    .description('cancel jobs that have not finished')
    .argument('<id...>', 'ids of jobs')
    .action(async (ids, _options, command: Command) => {
      const { cancelJobs } = await import('./commands/jobs.js');
      await cancelJobs(session, ids, command.optsWithGlobals());
    });
}

function addNodeGroup(program: Command, session: Session): void {
  const node = program
    .command('node')
    .description('the machines of the fleet: ls, get, cordon, uncordon, drain, undrain, join-token, rm');
  addNodeCommands(node, session);
  addJoinCommands(node, session);
}

function addUp(program: Command, session: Session): void {
  const port = wholeNumber(0, 65_535);
  program
    .command('up')
    .description('run a whole fleet on this machine: PostgreSQL, control plane and node agents')
    .option('--http-port <port>', 'of the HTTP API and the gateway; 0 takes a free one', port, 8080)
    .option('--grpc-port <port>', 'where the agents connect; 0 takes a free one', port, 7070)
    .option('--host <address>', 'the address to serve HTTP on', '127.0.0.1')
    .option('--data-dir <folder>', 'where everything is kept', '.lambda')
    .option('--nodes <count>', 'how many agents', wholeNumber(1, 16), 1)
    .addOption(
      new Option('--driver <driver>', 'where functions run').choices(['auto', 'docker', 'process']).default('auto'),
    )
    .option('--builds', 'build images of deployed Dockerfiles here: their steps run as root, with a network')
    .action(async (_options, command: Command) => {
      const { up } = await import('./commands/up.js');
      process.exitCode = await up(session, command.opts());
    });
}

function addAgentCommands(program: Command, session: Session): void {
  program
    .command('agent')
    .description('this machine as a node: doctor')
    .command('doctor')
    .description('check what an agent needs of this machine, and start a sandbox of each kind')
    .option('--data-dir <folder>', "the agent's directory (LAMBDA_DATA_DIR, else .lambda)")
    .addOption(new Option('-o, --output <format>', 'how to print').choices(['table', 'json']).default('table'))
    .action(async (_options, command: Command) => {
      const { doctor } = await import('./commands/agent/doctor.js');
      process.exitCode = await doctor(session, command.opts());
    });
}
