import { access } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { CliError, usageError } from '../cli-error.js';
import type { Session } from '../session.js';
import type { FleetScripts, UpOptions } from '../up/fleet-options.js';
import { runFleet } from '../up/run-fleet.js';

const builtScript = (workspace: string) =>
  fileURLToPath(new URL(`../../../${workspace}/dist/main.js`, import.meta.url));

/** Runs a fleet on this machine until it is stopped. Returns the exit status. */
export async function up(session: Session, options: UpOptions): Promise<number> {
  if (options.httpPort === options.grpcPort && options.httpPort !== 0) {
    throw usageError(
      `--http-port and --grpc-port are both ${options.httpPort}.`,
      'Choose another port for one of them.',
    );
  }
  const scripts: FleetScripts = { controlPlane: builtScript('control-plane'), agent: builtScript('node-agent') };
  for (const script of [scripts.controlPlane, scripts.agent]) {
    await access(script).catch(() => {
      throw new CliError(`${script} is missing: the fleet is not built.`, { next: 'Build it: npm run build' });
    });
  }
  return await runFleet(session, options, scripts);
}
