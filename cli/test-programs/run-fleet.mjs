// `lambda up` with stand-ins for its processes: run-fleet.mjs <options as JSON> <control plane script> <agent script>
import { readConfig } from '../dist/config.js';
import { Output } from '../dist/output.js';
import { Session } from '../dist/session.js';
import { runFleet } from '../dist/up/run-fleet.js';

const [options, controlPlane, agent] = process.argv.slice(2);
const output = new Output(process.stdout, process.stderr, true);
try {
  const session = new Session(readConfig(), output, process.cwd());
  process.exitCode = await runFleet(session, JSON.parse(options), { controlPlane, agent });
} catch (error) {
  output.error(error.message, error.next);
  process.exitCode = error.exitCode ?? 1;
}
