import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { promisify } from 'node:util';
import { errorText } from '@lambda-fleet/common/errors';
import type { EngineRuntime } from '../engine-client.js';

/** The engine's names for gVisor: without a network, as its own installation writes it, and with one. */
export const RUNSC = 'runsc';
export const RUNSC_EGRESS = 'runsc-egress';

/** The oldest release that these checks and the tests know (2022-12-19). */
const VERSION_FLOOR = 20_221_219;
const VERSION_DEADLINE_MS = 5_000;

/** What is wrong with a part of the machine, and what to do about it. */
export interface Finding {
  /** `failed`: it cannot be used. `warning`: it can, and should be looked at. */
  readonly severity: 'failed' | 'warning';
  readonly problem: string;
  readonly advice: string;
}

export interface RunscDemands {
  /** `none` is for sandboxes without a network. */
  readonly network: 'none' | 'sandbox';
  /** Whether the runtime in the sandbox opens a unix socket of the host, which gVisor forbids unless told otherwise. */
  readonly hostSockets: boolean;
}

/**
 * What is wrong with an entry of gVisor in the engine's configuration, as far as its arguments tell. Whether it works
 * shows only when a sandbox is started.
 */
export function checkRunscArguments(entry: EngineRuntime, demands: RunscDemands): readonly Finding[] {
  const flags = parseFlags(entry.args);
  const findings: Finding[] = [];
  const failed = (problem: string, advice: string) => findings.push({ severity: 'failed', problem, advice });
  const network = flags.get('network') ?? 'sandbox';
  if (demands.network === 'none' && network === 'host') {
    failed('--network=host gives sandboxes the network stack of the kernel', 'use --network=none');
  } else if (demands.network === 'none' && network !== 'none') {
    findings.push({
      severity: 'warning',
      problem: `--network=${network}, but its sandboxes have no network`,
      advice: 'use --network=none: releases before August 2024 do not start otherwise on Linux 6.11 and newer',
    });
  } else if (demands.network === 'sandbox' && network !== 'sandbox') {
    failed(`--network=${network}, but its sandboxes need a network stack of their own`, 'use --network=sandbox');
  }
  if (demands.hostSockets && !allowsHostSockets(flags)) {
    failed(
      'sandboxes may not open the unix socket of their channel',
      'add --host-uds=open, or --fsgofer-host-uds for releases before 2023',
    );
  }
  for (const flag of ['ignore-cgroups', 'rootless']) {
    if (isSet(flags.get(flag))) failed(`--${flag} leaves sandboxes without limits`, 'remove it');
  }
  if (flags.get('platform') === 'kvm' && !existsSync('/dev/kvm')) {
    failed(
      '--platform=kvm, and this machine has no /dev/kvm',
      'use --platform=systrap, or ptrace for releases before 2023',
    );
  }
  return findings;
}

/**
 * Arguments and release of an entry. `here` tells whether the engine's programs are this machine's; where not, the release
 * stays unknown.
 */
export async function inspectRunsc(
  entry: EngineRuntime,
  demands: RunscDemands,
  here: boolean,
): Promise<readonly Finding[]> {
  const findings = checkRunscArguments(entry, demands);
  if (!here) return findings;
  try {
    return [...findings, ...checkRunscVersion(await runscVersion(entry.path))];
  } catch (err) {
    const problem = `${entry.path} cannot be run: ${errorText(err)}`;
    return [...findings, { severity: 'failed', problem, advice: 'install gVisor, or correct the path' }];
  }
}

/** Why sandboxes of gVisor can have no network; empty when they can. */
export async function egressProblems(
  entry: EngineRuntime | undefined,
  hostSockets: boolean,
): Promise<readonly string[]> {
  if (entry === undefined)
    return [`gVisor is offered, and the engine has no runtime ${RUNSC_EGRESS} for its sandboxes with a network`];
  const findings = await inspectRunsc(entry, { network: 'sandbox', hostSockets }, true);
  return findings
    .filter(({ severity }) => severity === 'failed')
    .map(({ problem, advice }) => `${RUNSC_EGRESS}: ${problem} (${advice})`);
}

/** Asks the program for its release, such as `release-20240212.0`; rejects when it cannot be run. */
export async function runscVersion(path: string): Promise<string> {
  const { stdout } = await promisify(execFile)(path, ['--version'], { timeout: VERSION_DEADLINE_MS });
  return /^runsc version (\S+)/m.exec(stdout)?.[1] ?? 'unknown';
}

export function checkRunscVersion(version: string): readonly Finding[] {
  const date = /(?:^|\D)(20\d{6})(?:\D|$)/.exec(version)?.[1];
  if (date === undefined) {
    return [
      {
        severity: 'warning',
        problem: `its version is ${version}, which tells no release date`,
        advice: `make sure that it is not older than release-${VERSION_FLOOR}`,
      },
    ];
  }
  if (Number(date) >= VERSION_FLOOR) return [];
  return [
    {
      severity: 'failed',
      problem: `${version} is too old`,
      advice: `install release-${VERSION_FLOOR} or newer`,
    },
  ];
}

/** Of a name that is given twice the last counts, as in the program itself. */
function parseFlags(args: readonly string[]): ReadonlyMap<string, string> {
  const flags = new Map<string, string>();
  for (const [index, arg] of args.entries()) {
    const [, name, value] = /^--?([a-z0-9-]+)(?:=(.*))?$/s.exec(arg) ?? [];
    if (name === undefined) continue;
    const next = args[index + 1];
    // Whether a flag takes the next argument depends on its type; that of a boolean never does.
    flags.set(name, value ?? (next === undefined || next.startsWith('-') ? 'true' : next));
  }
  return flags;
}

function allowsHostSockets(flags: ReadonlyMap<string, string>): boolean {
  return isSet(flags.get('fsgofer-host-uds')) || ['open', 'all'].includes(flags.get('host-uds') ?? 'none');
}

function isSet(value: string | undefined): boolean {
  return value !== undefined && !['false', '0', 'f'].includes(value.toLowerCase());
}
