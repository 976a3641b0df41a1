import { type Logger as PinoLogger, pino } from 'pino';

export type Logger = PinoLogger;

/**
 * JSON lines on standard error (or another file descriptor), one wide event per
 * unit of work. Standard output stays free for data.
 */
export function createLogger(name: string, level: string, fd = 2): Logger {
  return pino(
    { name, level, base: { name, pid: process.pid }, timestamp: pino.stdTimeFunctions.isoTime },
    pino.destination({ fd, sync: false }),
  );
}
