import { type RuntimeFamily, type RuntimeName, runtimeFamily } from '@lambda-fleet/common/runtime-names';

/** A small function that says what it sees of the network, and takes memory. */
export interface TrialCode {
  readonly file: string;
  readonly handler: string;
  readonly source: string;
}

export interface Target {
  readonly host: string;
  readonly port: number;
}

/** Dials the targets, and asks for a name that nobody has. */
export interface NetworkStep {
  readonly step: 'network';
  readonly targets: readonly Target[];
}

/**
 * Takes `megabytes` in one piece, and touches every page. Taken little by little, the last of it evicts the pages of the
 * runtime's own program over and over before the kernel gives up: 3–40 s were seen, instead of 0.2.
 */
export interface MemoryStep {
  readonly step: 'memory';
  readonly megabytes: number;
}

export interface NetworkAnswer {
  readonly interfaces: readonly string[];
  /** Of each target: `connected`, or why not. */
  readonly dials: readonly string[];
  /** From its settings; empty without any. */
  readonly nameServer: string;
  /** `ENOTFOUND` when a name server has said so. */
  readonly name: string;
}

/** By its ending nobody's. */
const NOBODYS_NAME = 'trial.invalid';
const DIAL_MS = 2_000;

const NODE: TrialCode = {
  file: 'index.cjs',
  handler: 'index.handler',
  source: `
const dns = require('node:dns').promises;
const fs = require('node:fs');
const net = require('node:net');
const os = require('node:os');
const dial = ({ host, port }) => new Promise((resolve) => {
  const socket = net.connect({ host, port, timeout: ${DIAL_MS} }, () => { resolve('connected'); socket.destroy(); });
  socket.on('error', (err) => resolve(String(err.code)));
  socket.on('timeout', () => { resolve('timeout'); socket.destroy(); });
});
const nameServer = () => {
  try { return /^nameserver (\\S+)/m.exec(fs.readFileSync('/etc/resolv.conf', 'utf8'))?.[1] ?? ''; } catch { return ''; }
};
const network = async (targets) => ({
  interfaces: Object.keys(os.networkInterfaces()),
  dials: await Promise.all(targets.map(dial)),
  nameServer: nameServer(),
  name: await dns.lookup('${NOBODYS_NAME}').then(() => 'found', (err) => String(err.code)),
});
exports.handler = async ({ step, targets, megabytes }) => {
  if (step === 'network') return network(targets);
  return Buffer.alloc(megabytes * 1024 * 1024, 1).length;
};
`,
};

const PYTHON: TrialCode = {
  file: 'main.py',
  handler: 'main.handler',
  source: `
import errno
import re
import socket

def dial(host, port):
    try:
        socket.create_connection((host, port), ${DIAL_MS / 1_000}).close()
        return 'connected'
    except TimeoutError:
        return 'timeout'
    except OSError as error:
        return errno.errorcode.get(error.errno, 'unknown')

def name_server():
    try:
        with open('/etc/resolv.conf') as settings:
            found = re.search(r'^nameserver (\\S+)', settings.read(), re.M)
            return found.group(1) if found else ''
    except OSError:
        return ''

def lookup():
    try:
        socket.getaddrinfo('${NOBODYS_NAME}', 80)
        return 'found'
    except socket.gaierror as error:
        return 'ENOTFOUND' if error.errno == socket.EAI_NONAME else str(error.errno)

def handler(event):
    if event['step'] == 'network':
        return {
            'interfaces': [name for _, name in socket.if_nameindex()],
            'dials': [dial(target['host'], target['port']) for target in event['targets']],
            'nameServer': name_server(),
            'name': lookup(),
        }
    return len(b'1' * (event['megabytes'] * 1024 * 1024))
`,
};

const CODE: Partial<Record<RuntimeFamily, TrialCode>> = { nodejs: NODE, python: PYTHON };

/** Undefined for runtimes whose programs are not made of source text. */
export function trialCode(runtime: RuntimeName): TrialCode | undefined {
  return CODE[runtimeFamily(runtime)];
}
