import { errorText } from './errors.js';
import { Lifecycle } from './lifecycle.js';
import type { Logger } from './logger.js';

/** What a supervised process tells its parent over IPC once it serves. */
export interface ReadyMessage {
  readonly ready: true;
}

export interface RunProcessOptions {
  readonly log: Logger;
  /** Starts everything and registers each release. The process is ready when `ready` is called. */
  readonly start: (lifecycle: Lifecycle, ready: () => void) => Promise<void>;
}

/**
 * Runs a server process from its start to its end.
 *
 * SIGTERM and SIGINT stop it in order, once, and a second one hurries that; so does the end of the IPC channel,
 * which means that the parent is gone and nobody would stop it otherwise. An error
 * that nobody handled ends it at once with status 1: its state is unknown, and
 * whoever supervises it starts it again.
 */
export function runProcess({ log, start }: RunProcessOptions): void {
  const lifecycle = new Lifecycle(log);
  let stopping = false;

  const stop = (reason: string, status: number): void => {
    if (stopping) {
      lifecycle.hurry();
      return;
    }
    stopping = true;
    log.info({ reason }, 'process_stopping');
    void lifecycle.close().then(() => {
      log.flush();
      process.exit(status);
    });
  };
  const crash = (what: string) => (err: unknown) => {
    log.fatal({ err, what }, 'process_crashed');
    log.flush();
    process.exit(1);
  };

  process.on('SIGTERM', () => stop('SIGTERM', 0));
  process.on('SIGINT', () => stop('SIGINT', 0));
  process.on('uncaughtException', crash('uncaughtException'));
  process.on('unhandledRejection', crash('unhandledRejection'));
  if (process.send !== undefined) {
    process.on('disconnect', () => {
      lifecycle.hurry();
      stop('the parent process is gone', 0);
    });
  }

  const ready = (): void => {
    const message: ReadyMessage = { ready: true };
    process.send?.(message);
  };
  start(lifecycle, ready).catch((err: unknown) => {
    log.fatal({ err }, 'process_start_failed');
    process.stderr.write(`${errorText(err)}\n`);
    stop('it could not start', 1);
  });
}
