import { type RuntimeFamily, type RuntimeName, runtimeFamily } from '@lambda-fleet/common/runtime-names';

/** A small function that says what it sees of the network, and takes memory. */
export interface TrialCode {
  readonly file: string;
  readonly handler: string;
  readonly source: string;
}

export interface NetworkStep {
  readonly step: 'network';
  readonly host: string;
  readonly port: number;
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
  /** `connected`, or why not. */
  readonly dial: string;
}

const DIAL_MS = 2_000;

const NODE: TrialCode = {
  file: 'index.cjs',
  handler: 'index.handler',
  source: `
const net = require('node:net');
const os = require('node:os');
const dial = (host, port) => new Promise((resolve) => {
  const socket = net.connect({ host, port, timeout: ${DIAL_MS} }, () => { resolve('connected'); socket.destroy(); });
  socket.on('error', (err) => resolve(String(err.code)));
  socket.on('timeout', () => { resolve('timeout'); socket.destroy(); });
});
exports.handler = async ({ step, host, port, megabytes }) => {
  if (step === 'network') return { interfaces: Object.keys(os.networkInterfaces()), dial: await dial(host, port) };
  return Buffer.alloc(megabytes * 1024 * 1024, 1).length;
};
`,
};

const PYTHON: TrialCode = {
  file: 'main.py',
  handler: 'main.handler',
  source: `
import errno
import socket

def dial(host, port):
    try:
        socket.create_connection((host, port), ${DIAL_MS / 1_000}).close()
        return 'connected'
    except TimeoutError:
        return 'timeout'
    except OSError as error:
        return errno.errorcode.get(error.errno, 'unknown')

def handler(event):
    if event['step'] == 'network':
        interfaces = [name for _, name in socket.if_nameindex()]
        return {'interfaces': interfaces, 'dial': dial(event['host'], event['port'])}
    return len(b'1' * (event['megabytes'] * 1024 * 1024))
`,
};

const CODE: Partial<Record<RuntimeFamily, TrialCode>> = { nodejs: NODE, python: PYTHON };

/** Undefined for runtimes whose programs are not made of source text. */
export function trialCode(runtime: RuntimeName): TrialCode | undefined {
  return CODE[runtimeFamily(runtime)];
}
