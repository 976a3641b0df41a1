import { createLogger } from '@lambda-fleet/common/logger';
import { readDoctorConfig } from './config.js';
import { examine } from './doctor/examine.js';

/**
 * `lambda agent doctor` starts this. Writes one JSON object per check to standard output, as each is done: `{name, status,
 * detail, advice}`, with the status `ok`, `warning` or `failed`.
 */
const log = createLogger('doctor', 'silent');
const stop = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => stop.abort());
for await (const check of examine({ config: readDoctorConfig(), log, signal: stop.signal })) {
  process.stdout.write(`${JSON.stringify(check)}\n`);
}
