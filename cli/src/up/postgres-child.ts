import {
  type EmbeddedPostgres,
  startEmbeddedPostgres,
} from '@lambda-fleet/common/embedded-postgres/start-embedded-postgres';
import type { Logger } from '@lambda-fleet/common/logger';
import type { LogFile } from './log-file.js';
import type { ChildProgram, RunningChild } from './supervised-child.js';

export interface PostgresProgram {
  readonly dataDir: string;
  readonly socketDir: string;
  readonly log: Logger;
  readonly serverLog: LogFile;
  /** Told at every start; the URL is the same each time. */
  readonly onStarted: (server: EmbeddedPostgres) => void;
}

/** The embedded PostgreSQL as a child: it serves as soon as it is started. */
export function postgresProgram(program: PostgresProgram): ChildProgram {
  return {
    name: 'PostgreSQL',
    async start(): Promise<RunningChild> {
      const server = await startEmbeddedPostgres({
        dataDir: program.dataDir,
        socketDir: program.socketDir,
        log: program.log,
        onOutput: (line) => program.serverLog.line(line),
      });
      program.onStarted(server);
      return {
        pid: server.pid,
        ready: Promise.resolve(),
        exited: server.exited.then(({ code, signal, lastLines }) => ({
          how: signal === null ? `ended with status ${code}` : `was killed by ${signal}`,
          lastLines,
        })),
        terminate: () => void server.stop(),
        kill: () => {
          try {
            process.kill(-server.pid, 'SIGKILL');
          } catch {
            // Gone already, which is what was wanted.
          }
        },
      };
    },
  };
}
