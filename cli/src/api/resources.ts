/** What the HTTP API answers with, as far as this command reads it. Everything came over the network: see the checks. */

export interface FunctionResource {
  readonly name: string;
  readonly url: string;
  readonly version: number;
  readonly runtime: string;
  readonly handler: string;
  readonly memoryMb: number;
  readonly timeoutMs: number;
  readonly updatedAt: string;
  readonly warnings?: readonly string[];
}

export interface LogLine {
  readonly id: number;
  readonly executionId: string | null;
  readonly at: string;
  readonly stream: string;
  readonly level: string | null;
  readonly text: string;
}

export interface BuildResource {
  readonly id: string;
  readonly functionName: string;
  readonly state: string;
  readonly nodeId: string | null;
  readonly finishedAt: string | null;
  readonly error?: { readonly code: string; readonly message: string } | null;
  readonly version?: number | null;
  readonly warnings?: readonly string[];
}

export interface BuildLine {
  readonly sequence: number;
  readonly stream: string;
  readonly text: string;
}

export interface ExecutionResource {
  readonly id: string;
  readonly functionName: string;
  readonly version?: number;
  readonly status?: string;
  readonly outcome: string | null;
  readonly trigger?: string;
  readonly statusCode?: number | null;
  readonly attempts?: number;
  readonly acceptedAt?: string | null;
  /** Null of one that is queued and was not tried yet. */
  readonly startedAt: string | null;
  readonly finishedAt?: string | null;
  /** Of one that is queued: why, and when it is tried next. */
  readonly reason?: string | null;
  readonly notBefore?: string | null;
  readonly nodeId?: string | null;
  readonly receipt?: Readonly<Record<string, unknown>> | null;
  readonly error?: { readonly errorType: unknown; readonly errorMessage: unknown; readonly trace?: unknown } | null;
  /** Absent in lists. */
  readonly input?: string | null;
  readonly output?: string | null;
}

export interface JobResource {
  readonly id: string;
  readonly status: string;
  readonly outcome: string | null;
  readonly runtime: string;
  readonly attempts: number;
  readonly reason: string | null;
  readonly createdAt: string;
  readonly startedAt: string | null;
  readonly finishedAt: string | null;
}

export interface ScheduleResource {
  readonly id: string;
  readonly name: string;
  readonly functionName: string;
  readonly expression: string;
  readonly timeZone: string;
  readonly enabled: boolean;
  readonly overlap: string;
  readonly nextTickAt: string | null;
}

export interface TickResource {
  readonly trigger: string;
  readonly tickAt: string;
  readonly outcome: string;
  readonly invocationId: string | null;
  readonly count: number;
}

export interface DeadLetterResource {
  readonly id: string;
  readonly functionName: string;
  readonly trigger: string;
  readonly condition: string;
  readonly attempts: number;
  readonly losses: number;
  readonly error?: { readonly errorType: string; readonly errorMessage: string } | null;
  readonly payloadBytes: number;
  readonly acceptedAt: string;
  readonly diedAt: string;
}

type Shape = Readonly<Record<string, 'string' | 'number' | 'boolean' | 'string or null'>>;

function fits(value: unknown, shape: Shape): boolean {
  if (typeof value !== 'object' || value === null) return false;
  const fields = value as Record<string, unknown>;
  return Object.entries(shape).every(([name, type]) => {
    const field = fields[name];
    return type === 'string or null' ? field == null || typeof field === 'string' : typeof field === type;
  });
}

export function isFunction(value: unknown): value is FunctionResource {
  return fits(value, {
    name: 'string',
    url: 'string',
    version: 'number',
    runtime: 'string',
    handler: 'string',
    memoryMb: 'number',
    timeoutMs: 'number',
    updatedAt: 'string',
  });
}

export function isLogLine(value: unknown): value is LogLine {
  return fits(value, { id: 'number', executionId: 'string or null', at: 'string', stream: 'string', text: 'string' });
}

export function isExecution(value: unknown): value is ExecutionResource {
  return fits(value, {
    id: 'string',
    functionName: 'string',
    outcome: 'string or null',
    startedAt: 'string or null',
    finishedAt: 'string or null',
  });
}

export function isJob(value: unknown): value is JobResource {
  return fits(value, {
    id: 'string',
    status: 'string',
    outcome: 'string or null',
    runtime: 'string',
    attempts: 'number',
    reason: 'string or null',
    createdAt: 'string',
    startedAt: 'string or null',
    finishedAt: 'string or null',
  });
}

export function isBuild(value: unknown): value is BuildResource {
  return fits(value, {
    id: 'string',
    functionName: 'string',
    state: 'string',
    nodeId: 'string or null',
    finishedAt: 'string or null',
  });
}

export function isBuildLine(value: unknown): value is BuildLine {
  return fits(value, { sequence: 'number', stream: 'string', text: 'string' });
}

export function isSchedule(value: unknown): value is ScheduleResource {
  return fits(value, {
    id: 'string',
    name: 'string',
    functionName: 'string',
    expression: 'string',
    timeZone: 'string',
    enabled: 'boolean',
    overlap: 'string',
    nextTickAt: 'string or null',
  });
}

export function isTick(value: unknown): value is TickResource {
  return fits(value, {
    trigger: 'string',
    tickAt: 'string',
    outcome: 'string',
    invocationId: 'string or null',
    count: 'number',
  });
}

export function isDeadLetter(value: unknown): value is DeadLetterResource {
  return fits(value, {
    id: 'string',
    functionName: 'string',
    trigger: 'string',
    condition: 'string',
    attempts: 'number',
    losses: 'number',
    payloadBytes: 'number',
    acceptedAt: 'string',
    diedAt: 'string',
  });
}
