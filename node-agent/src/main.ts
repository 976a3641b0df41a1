import { createLogger } from '@lambda-fleet/common/logger';
import { runProcess } from '@lambda-fleet/common/run-process';
import { readConfig } from './config.js';
import { wireAgent } from './wiring.js';

// Folders of code and sockets are for sandboxes to read, whose users are others.
process.umask(0o022);

const config = readConfig();
const log = createLogger('node-agent', config.logLevel);

runProcess({ log, start: (lifecycle, ready) => wireAgent(config, log, lifecycle, ready) });
