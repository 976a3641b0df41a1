import { Counter, collectDefaultMetrics, Histogram, Registry } from 'prom-client';
import type { InvocationResult } from '../invocations/invocation.js';
import type { Trigger } from '../invocations/trigger.js';

/** What the control plane measures about itself. Base units, no ids as labels. */
export class Metrics {
  readonly registry = new Registry();

  readonly #invocations = new Counter({
    name: 'lambda_invocations_total',
    help: 'Invocations by how they ended for their caller.',
    labelNames: ['function', 'version', 'trigger', 'outcome'],
    registers: [this.registry],
  });

  readonly #duration = new Histogram({
    name: 'lambda_invocation_duration_seconds',
    help: 'From the arrival of a request to its result.',
    labelNames: ['function', 'trigger', 'outcome'],
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900],
    registers: [this.registry],
  });

  readonly #coldStarts = new Counter({
    name: 'lambda_cold_starts_total',
    help: 'Invocations that waited for a sandbox to be made (cold) or specialised (blank).',
    labelNames: ['function', 'path'],
    registers: [this.registry],
  });

  readonly #jobs = new Counter({
    name: 'lambda_jobs_finished_total',
    help: 'Jobs by how they finished.',
    labelNames: ['status'],
    registers: [this.registry],
  });

  readonly #http = new Histogram({
    name: 'lambda_http_request_duration_seconds',
    help: 'HTTP requests by route, not by path.',
    labelNames: ['route', 'method', 'code'],
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900],
    registers: [this.registry],
  });

  constructor() {
    collectDefaultMetrics({ register: this.registry });
  }

  readonly observeInvocation = (result: InvocationResult, trigger: Trigger): void => {
    // Test runs and deploy checks are the platform's own and would drown a function's figures.
    if (trigger === 'test' || trigger === 'deploy') return;
    const { outcome, receipt } = result;
    const { functionName, versionNumber } = result.version.spec;
    this.#invocations.inc({ function: functionName, version: versionNumber, trigger, outcome });
    if (receipt.totalMs !== undefined) {
      this.#duration.observe({ function: functionName, trigger, outcome }, receipt.totalMs / 1_000);
    }
    if (receipt.start !== undefined && receipt.start !== 'warm') {
      this.#coldStarts.inc({ function: functionName, path: receipt.start });
    }
  };

  readonly observeJob = (status: string): void => {
    this.#jobs.inc({ status });
  };

  readonly observeHttp = (route: string, method: string, code: number, seconds: number): void => {
    this.#http.observe({ route, method, code }, seconds);
  };
}
