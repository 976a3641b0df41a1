import type { Script } from 'node:vm';
import { eventText } from '../event.js';
import { parseJson } from '../intrinsics.js';
import type { LogCapture } from '../log-capture.js';
import { httpFrame, jsonFrame } from '../response-frame.js';
import type { Serve } from '../serve-handler.js';
import { compileJob } from './compile-job.js';
import { isForeign, JobRun } from './job-run.js';

/** A job, compiled: each invocation runs it in a realm of its own. */
export class Job {
  #run: JobRun | undefined;

  private constructor(
    private readonly script: Script,
    private readonly logs: LogCapture,
  ) {}

  /** Rejects as `compileJob` does. */
  static async load(taskRoot: string, logs: LogCapture): Promise<Job> {
    return new Job(await compileJob(taskRoot), logs);
  }

  readonly serve: Serve = async (id, invoke, body) => {
    this.#run = new JobRun(this.script, eventText(body), (level, text) => this.logs.print(id, level, text));
    const json = await this.#run.result;
    return invoke.http ? httpFrame(id, parseJson(json)) : jsonFrame(id, json);
  };

  /** Takes a rejection that nobody handled. False when it is none of a realm's. */
  takesRejection(reason: unknown, promise: Promise<unknown>): boolean {
    if (this.#run === undefined || !isForeign(promise)) {
      return false;
    }
    this.#run.fail(reason);
    return true;
  }
}
