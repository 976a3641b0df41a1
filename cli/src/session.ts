import { ApiClient } from './api/client.js';
import type { Config } from './config.js';
import { findServer, type ServerFlags } from './find-server.js';
import type { Output } from './output.js';

/** What every command is given: the environment, the terminal, and the flags that all commands share. */
export class Session {
  constructor(
    readonly config: Config,
    readonly output: Output,
    readonly cwd: string,
  ) {}

  connect(flags: ServerFlags): ApiClient {
    return new ApiClient(findServer(flags, this.config, this.cwd));
  }
}
