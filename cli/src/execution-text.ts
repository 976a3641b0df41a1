import type { ExecutionResource } from './api/resources.js';
import { renderFields } from './table.js';
import { bytesText, printable } from './terminal-text.js';
import { renderWaterfall } from './waterfall.js';

/** An execution for people: what it was, where its time went, its error, and what went in and came out. */
export function executionText(execution: ExecutionResource): string {
  const { error, input, output } = execution;
  const phases = renderWaterfall(execution.receipt ?? {});
  return [
    renderFields(fieldsOf(execution)),
    section('PHASES', phases === '' ? undefined : phases),
    section('ERROR', error == null ? undefined : errorText(error)),
    section('INPUT', input === undefined ? undefined : bodyText(input)),
    section('OUTPUT', output === undefined ? undefined : bodyText(output)),
  ].join('');
}

function fieldsOf(execution: ExecutionResource): readonly (readonly [string, string])[] {
  const receipt = execution.receipt ?? {};
  const text = (value: unknown): string => (value == null ? '' : String(value as string | number));
  const fields: readonly (readonly [string, string])[] = [
    ['id', execution.id],
    ['function', execution.functionName],
    ['version', text(execution.version)],
    ['status', execution.status ?? execution.outcome ?? 'running'],
    ['status code', text(execution.statusCode)],
    ['trigger', text(execution.trigger)],
    ['reason', text(execution.reason)],
    ['next attempt', execution.status === 'queued' ? text(execution.notBefore) : ''],
    ['attempts', execution.attempts === 1 ? '' : text(execution.attempts)],
    ['accepted', text(execution.acceptedAt)],
    ['started', text(execution.startedAt)],
    ['finished', text(execution.finishedAt)],
    ['node', text(execution.nodeId)],
    ['start', text(receipt.start)],
    ['isolation', text(receipt.isolation)],
    ['cpu', typeof receipt.cpuMs === 'number' ? `${receipt.cpuMs} ms` : ''],
    ['memory', memoryText(receipt)],
    ['fault', text(receipt.fault)],
  ];
  return fields.filter(([, value]) => value !== '');
}

function memoryText({ memoryPeakBytes, memoryMb }: Readonly<Record<string, unknown>>): string {
  if (typeof memoryPeakBytes !== 'number') return '';
  return typeof memoryMb === 'number' ? `${bytesText(memoryPeakBytes)} of ${memoryMb} MB` : bytesText(memoryPeakBytes);
}

function errorText({ errorType, errorMessage, trace }: NonNullable<ExecutionResource['error']>): string {
  const lines = Array.isArray(trace) ? trace.map((line) => String(line)) : [];
  const head = `${String(errorType)}: ${String(errorMessage)}`;
  // Node's traces begin with the error itself.
  const rest = lines.filter((line, at) => at > 0 || !line.startsWith(`${String(errorType)}:`));
  return printable([head, ...rest.map((line) => `  ${line.trim()}`)].join('\n'));
}

function bodyText(text: string | null): string {
  return text === null ? '(none that is kept as text)' : printable(String(text));
}

function section(title: string, text: string | undefined): string {
  return text === undefined ? '' : `\n${title}\n${text}${text.endsWith('\n') ? '' : '\n'}`;
}
