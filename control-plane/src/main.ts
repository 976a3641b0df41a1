import { armCrashPoints } from '@lambda-fleet/common/crash-points';
import { createLogger } from '@lambda-fleet/common/logger';
import { runProcess } from '@lambda-fleet/common/run-process';
import { readConfig } from './config.js';
import { wireControlPlane } from './wiring.js';

const config = readConfig();
const log = createLogger('control-plane', config.logLevel);
armCrashPoints(config.crashFile);

runProcess({
  log,
  start: async (lifecycle, ready) => {
    await wireControlPlane(config, log, lifecycle);
    ready();
  },
});
