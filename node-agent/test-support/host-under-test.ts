import { createHash } from 'node:crypto';
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createLogger } from '@lambda-fleet/common/logger';
import { InvokeKind, type LogLine, type RefusalReason, type ResponseEnd, type VersionSpec } from '@lambda-fleet/proto';
import { runtimeEntry } from '@lambda-fleet/runtime-node';
import { create } from 'tar';
import type { AlterSpec } from '../src/drivers/docker/docker-driver.js';
import { type Host, type HostOptions, openHost } from '../src/host/open-host.js';
import type { AgentInvocation } from '../src/invocations/invocation.js';

/** `docker in a VM` treats the engine as one of Docker Desktop: nothing but its API and shared files reaches a sandbox. */
export const DRIVERS = ['docker', 'docker in a VM', 'process'] as const;
export type DriverName = (typeof DRIVERS)[number];

/** What tests tell the Docker driver. Images other than the usual ones are for an engine that several checkouts share. */
export function dockerOptions(driver: DriverName) {
  return {
    dockerHost: process.env.DOCKER_HOST,
    imagePrefix: process.env.LAMBDA_TEST_IMAGE_PREFIX,
    ...(driver === 'docker in a VM' ? { sharesKernel: false } : {}),
  };
}

const providedInit = fileURLToPath(new URL(`../../runtimes/provided/dist/init-${process.arch}`, import.meta.url));
export const pythonRuntime = fileURLToPath(new URL('../../runtimes/python/lambda_runtime', import.meta.url));
export const log = createLogger('node-agent-test', process.env.LAMBDA_TEST_LOG ?? 'silent');

/** A file of a function; as text it is readable, and executable where it is a program of the `provided` runtime. */
type SourceFile = string | Buffer | { readonly content: string | Buffer; readonly mode: number };

export type Ended = ResponseEnd & { readonly logs: readonly LogLine[]; readonly text: string };
export type Refused = { readonly refused: RefusalReason; readonly detail: string };

export interface CallOptions {
  readonly event?: unknown;
  readonly kind?: InvokeKind;
  readonly singleUse?: boolean;
  readonly isolation?: string;
  readonly id?: string;
}

/** A real host in a temporary directory, with functions made from source text. */
export class HostUnderTest {
  readonly #archives = new Map<string, Buffer>();
  #calls = 0;
  fetches = 0;
  /** Layers of container images that can be fetched, by digest. */
  layers: ReadonlyMap<string, Buffer> = new Map();
  /** Makes fetching fail while it is set. */
  fetchFailure: Error | undefined;

  host!: Host;

  private constructor(
    readonly directory: string,
    private readonly openHere: (self: HostUnderTest) => Promise<Host>,
  ) {}

  static async open(
    driver: DriverName,
    limits: {
      memoryMb?: number;
      slots?: number;
      blanks?: number;
      availableBytes?: () => number;
      alterSpec?: AlterSpec;
      dockerHost?: string;
      imageBytesMax?: number;
    } = {},
    others: Partial<HostOptions> = {},
  ): Promise<HostUnderTest> {
    const directory = await mkdtemp(join(tmpdir(), 'host-'));
    // Or the process driver's user could not reach it, and would leave its work elsewhere.
    await chmod(directory, 0o755);
    const node = new HostUnderTest(directory, (self) =>
      openHost({
        nodeId: 'node-under-test',
        dataDir: self.dataDir,
        driver: driver === 'process' ? 'process' : 'docker',
        ...dockerOptions(driver),
        ...(limits.dockerHost === undefined ? {} : { dockerHost: limits.dockerHost }),
        imageBytesMax: limits.imageBytesMax,
        memoryBytes: (limits.memoryMb ?? 2048) * 1024 * 1024,
        slots: limits.slots ?? 8,
        blanks: limits.blanks ?? 0,
        availableBytes: limits.availableBytes,
        alterSpec: limits.alterSpec,
        fetchArtifact: async function* (sha256) {
          self.fetches += 1;
          if (self.fetchFailure !== undefined) throw self.fetchFailure;
          yield self.#archives.get(sha256) ?? self.layers.get(sha256) ?? Buffer.alloc(0);
        },
        nodeRuntime: runtimeEntry,
        pythonRuntime,
        providedInit,
        tmpDir: tmpdir(),
        log,
        ...others,
      }),
    );
    node.host = await node.openHere(node);
    return node;
  }

  get dataDir(): string {
    return join(this.directory, 'data');
  }

  /** Stops the host and starts it again on the same data. */
  async reopen(meanwhile: () => Promise<void> = async () => {}): Promise<void> {
    await this.host.close();
    await meanwhile();
    this.host = await this.openHere(this);
  }

  /** A version with this code; every call makes a new one. */
  async deploy(
    files: string | Readonly<Record<string, SourceFile>>,
    spec: Partial<VersionSpec> = {},
  ): Promise<VersionSpec> {
    const source = await mkdtemp(join(this.directory, 'source-'));
    const all = typeof files === 'string' ? { 'index.mjs': files } : files;
    for (const [name, file] of Object.entries(all)) {
      const plain = typeof file === 'string' || Buffer.isBuffer(file);
      const { content, mode } = plain ? { content: file, mode: name === 'bootstrap' ? 0o755 : 0o644 } : file;
      await mkdir(dirname(join(source, name)), { recursive: true });
      await writeFile(join(source, name), content);
      await chmod(join(source, name), mode);
    }
    const chunks: Buffer[] = [];
    for await (const chunk of create({ gzip: true, cwd: source }, ['.'])) chunks.push(chunk);
    const archive = Buffer.concat(chunks);
    const artifactSha256 = createHash('sha256').update(archive).digest('hex');
    this.#archives.set(artifactSha256, archive);
    return {
      versionId: `version-${source.slice(-6)}`,
      projectId: 'project',
      functionId: 'function',
      functionName: 'under-test',
      versionNumber: 1,
      runtime: 'nodejs',
      handler: 'index.handler',
      memoryMb: 128,
      cpus: 1,
      timeoutMs: 10_000,
      initTimeoutMs: 10_000,
      keepAliveMs: 600_000,
      environment: {},
      artifactSha256,
      artifactBytes: archive.length,
      arn: 'arn:aws:lambda:local:000000000000:function:under-test',
      network: 'none',
      egressHosts: [],
      concurrency: 1,
      keepRunning: false,
      realm: '',
      ...spec,
    };
  }

  /** Runs an invocation to its end; throws when it is refused. */
  async call(spec: VersionSpec, options: CallOptions = {}): Promise<Ended> {
    const result = await this.tryCall(spec, options);
    if ('refused' in result) throw new Error(`refused: ${result.detail}`);
    return result;
  }

  tryCall(spec: VersionSpec, options: CallOptions = {}): Promise<Ended | Refused> {
    this.#calls += 1;
    const payload = Buffer.from(JSON.stringify(options.event ?? {}));
    const invocation: AgentInvocation = {
      invoke: {
        invocationId: options.id ?? `invocation-${this.#calls}`,
        epoch: 1,
        kind: options.kind ?? InvokeKind.EVENT,
        versionId: spec.versionId,
        trigger: 'api',
        traceId: '',
        payloadBytes: payload.length,
        payloadStreamed: false,
        payload,
        clientContext: '',
        singleUse: options.singleUse ?? false,
        isolation: options.isolation ?? '',
      },
      spec,
      payload,
      arrivedAt: performance.now(),
    };
    const logs: LogLine[] = [];
    return new Promise((resolve) => {
      this.host.runner.invoke(invocation, {
        refused: (_, refused, detail) => resolve({ refused, detail }),
        log: (line) => logs.push(line),
        ended: (end) => resolve({ ...end, logs, text: end.body.toString() }),
      });
    });
  }

  async close(): Promise<void> {
    await this.host.close();
    await rm(this.directory, { recursive: true, force: true });
  }
}
