import { createHash, randomUUID } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { credentials } from '@grpc/grpc-js';
import {
  type Authority,
  issueAuthority,
  issueCertificate,
  type KeyAndCertificate,
} from '@lambda-fleet/common/certificates/issue-certificate';
import { PAYLOAD_BYTES_MAX } from '@lambda-fleet/common/limits';
import {
  type Build,
  type BuildEnd,
  BuildOutcome,
  type Capacity,
  type Drain,
  type DrainProgress,
  InvokeKind,
  type LogBatch,
  Outcome,
  type ResponseEnd,
  type SelfTestCheck,
  type VersionSpec,
} from '@lambda-fleet/proto';
import { pino } from 'pino';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type RunningFleetServer, startFleetServer } from '../../control-plane/src/grpc/fleet-server.js';
import { createFleetService } from '../../control-plane/src/grpc/fleet-service.js';
import { AttemptGrants } from '../../control-plane/src/nodes/attempt-grants.js';
import type { DispatchAnswer } from '../../control-plane/src/nodes/dispatch.js';
import { NodeRegistry } from '../../control-plane/src/nodes/node-registry.js';
import type { NodeSession } from '../../control-plane/src/nodes/node-session.js';
import { LayerSender } from '../../node-agent/src/images/layer-sender.js';
import type { AgentInvocation, InvocationSink } from '../../node-agent/src/invocations/invocation.js';
import { AgentLinks, type LinkRunner } from '../../node-agent/src/link/agent-links.js';
import { fetchArtifactOver } from '../../node-agent/src/link/fetch-artifact.js';
import type { LinkBuilder } from '../../node-agent/src/link/link-builds.js';
import { ScriptedAgent } from '../test-support/scripted-agent.js';
import { TcpProxy } from '../test-support/tcp-proxy.js';

const log = pino({ level: 'silent' });
const closers: (() => void | Promise<void>)[] = [];
let authority: Authority;
let serverCert: KeyAndCertificate;
let nodeCert: KeyAndCertificate;

beforeAll(async () => {
  authority = await issueAuthority();
  serverCert = await issueCertificate(authority, {
    commonName: 'control-plane',
    usage: 'server',
    dnsNames: ['localhost'],
    addresses: ['127.0.0.1'],
  });
  nodeCert = await issueCertificate(authority, { commonName: 'node-1', usage: 'client', dnsNames: [], addresses: [] });
});

afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

class ControlPlane {
  readonly unclaimed: ResponseEnd[] = [];
  readonly logs: LogBatch[] = [];
  readonly welcomed: NodeSession[] = [];
  readonly progress: DrainProgress[] = [];
  readonly selfTests: (readonly SelfTestCheck[])[] = [];
  readonly leaving: { session: NodeSession; boundMs: number }[] = [];
  /** What was put, by `project/sha256`. */
  readonly layers = new Map<string, Buffer>();
  readonly registry = new NodeRegistry({ onRoom: () => {}, onGone: () => {} });
  server: RunningFleetServer | undefined;

  async start(port = 0): Promise<this> {
    const service = createFleetService({
      replica: { id: randomUUID(), peers: () => [] },
      registry: this.registry,
      grants: new AttemptGrants(Buffer.alloc(32)),
      events: {
        onCapacity: () => {},
        onUnclaimedResult: (_session, end) => this.unclaimed.push(end),
        onDrainProgress: (_session, progress) => this.progress.push(progress),
        onLeaving: (session, boundMs) => this.leaving.push({ session, boundMs }),
        onSelfTest: (_session, checks) => this.selfTests.push(checks),
        onLogs: (_session, batch) => this.logs.push(batch),
        onClosed: (session) => this.registry.remove(session),
      },
      readArtifact: async function* (projectId, sha256) {
        yield Buffer.from(`${projectId}:`);
        yield Buffer.alloc(200_000, sha256);
      },
      revoked: { isRevoked: () => false, watch: () => () => {} },
      renew: undefined,
      layers: {
        stored: async (projectId, digests) =>
          digests.flatMap((sha256) => {
            const bytes = this.layers.get(`${projectId}/${sha256}`)?.length;
            return bytes === undefined ? [] : [{ sha256, bytes }];
          }),
        put: async (projectId, { sha256 }, source) => {
          const pieces: Uint8Array[] = [];
          for await (const piece of source) pieces.push(piece);
          this.layers.set(`${projectId}/${sha256}`, Buffer.concat(pieces));
        },
      },
      refuseHello: (hello) => (hello.isolation.includes('forbidden') ? 'not here' : undefined),
      onWelcomed: (session) => this.welcomed.push(session),
      log,
    });
    const tls = {
      ca: Buffer.from(authority.certificatePem),
      cert: Buffer.from(serverCert.certificatePem),
      key: Buffer.from(serverCert.keyPem),
    };
    this.server = await startFleetServer(service, { host: '127.0.0.1', port, tls });
    closers.push(() => this.stop());
    return this;
  }

  async stop(): Promise<void> {
    this.registry.close();
    await this.server?.close();
  }

  async session(): Promise<NodeSession> {
    await expect.poll(() => this.registry.session('node-1')?.payloads.attached, { timeout: 10_000 }).toBe(true);
    const session = this.registry.session('node-1');
    if (session === undefined) throw new Error('no session');
    return session;
  }
}

const CAPACITY: Capacity = {
  memoryBytesTotal: 1e9,
  memoryBytesFree: 1e9,
  slotsTotal: 4,
  slotsFree: 4,
  versions: [],
  blanks: [],
  sandboxesLeaked: 0,
};

/** Answers every event with itself, unless told to hold. */
class EchoRunner implements LinkRunner {
  held: (() => void)[] | undefined;
  started = 0;

  invoke({ invoke, spec, payload }: AgentInvocation, sink: InvocationSink): void {
    this.started += 1;
    const answer = (): void => {
      sink.log({
        invocationId: invoke.invocationId,
        functionId: spec.functionId,
        projectId: spec.projectId,
        versionId: spec.versionId,
        epoch: 1,
        sequence: 1,
        unixMs: Date.now(),
        stream: 1,
        level: 'INFO',
        text: 'hello',
      });
      sink.ended(endOf(invoke.invocationId, invoke.epoch, spec, payload));
    };
    if (this.held) this.held.push(answer);
    else answer();
  }
  cancel(): void {}
  forget(): void {}
  warm(): void {}
  cancelAll(): void {}
  capacity(): Capacity {
    return CAPACITY;
  }
  running(): [] {
    return [];
  }
}

function endOf(invocationId: string, epoch: number, spec: VersionSpec, body: Buffer): ResponseEnd {
  return {
    invocationId,
    epoch,
    versionId: spec.versionId,
    projectId: spec.projectId,
    functionId: spec.functionId,
    functionName: spec.functionName,
    versionNumber: spec.versionNumber,
    memoryMb: spec.memoryMb,
    trigger: 'api',
    startedAtUnixMs: Date.now(),
    outcome: Outcome.SUCCESS,
    http: undefined,
    bodyBytes: body.length,
    bodyStreamed: false,
    body,
    error: undefined,
    receipt: undefined,
    replayed: false,
    kind: InvokeKind.EVENT,
  };
}

function agent(
  controlPlane: { server: RunningFleetServer | undefined },
  options: { cert?: KeyAndCertificate; isolation?: string[]; builder?: LinkBuilder } = {},
) {
  const runner = new EchoRunner();
  const drains: Drain[] = [];
  const cert = options.cert ?? nodeCert;
  const link = new AgentLinks({
    addresses: [`localhost:${controlPlane.server?.port}`],
    credentials: () =>
      credentials.createSsl(
        Buffer.from(authority.certificatePem),
        Buffer.from(cert.keyPem),
        Buffer.from(cert.certificatePem),
      ),
    hello: {
      protocolMin: 1,
      protocolMax: 1,
      agentVersion: 'test',
      bootId: randomUUID(),
      labels: {},
      runtimes: [],
      get isolation() {
        return [...(options.isolation ?? ['none'])];
      },
      architecture: 'x64',
      networks: ['none'],
      selfTest: [],
      builds: false,
    },
    runner,
    builder: options.builder,
    onWelcomed: () => {},
    onDrain: (drain) => drains.push(drain),
    log,
  });
  link.start();
  closers.push(() => link.close());
  return { runner, link, drains };
}

const SPEC: VersionSpec = {
  versionId: randomUUID(),
  projectId: 'default',
  functionId: randomUUID(),
  functionName: 'echo',
  versionNumber: 1,
  runtime: 'nodejs',
  handler: 'index.handler',
  memoryMb: 128,
  cpus: 1,
  timeoutMs: 1_000,
  initTimeoutMs: 1_000,
  keepAliveMs: 1_000,
  environment: {},
  artifactSha256: 'ab'.repeat(32),
  artifactBytes: 1,
  arn: 'arn:aws:lambda:local:000000000000:function:echo',
  network: 'none',
  egressHosts: [],
  concurrency: 1,
  keepRunning: false,
  realm: '',
};

function invoke(session: NodeSession, payload: Buffer, deadlineMs = 20_000): Promise<DispatchAnswer> {
  const request = {
    id: randomUUID(),
    kind: InvokeKind.EVENT,
    trigger: 'api',
    payload,
    traceId: '',
    clientContext: '',
    singleUse: false,
  };
  return session.dispatch(SPEC, request, 'runc', 1, deadlineMs);
}

function bodyOf(answer: DispatchAnswer): Buffer {
  if (answer.kind !== 'ended') throw new Error(`expected an end, got ${JSON.stringify(answer)}`);
  return answer.body;
}

describe('the link', () => {
  it('carries bodies of every size both ways unchanged', async () => {
    const controlPlane = await new ControlPlane().start();
    agent(controlPlane);
    const session = await controlPlane.session();
    for (const size of [0, 1, 32 * 1024, 32 * 1024 + 1, 1_000_000, PAYLOAD_BYTES_MAX]) {
      const payload = Buffer.alloc(size, 'x');
      payload.fill(String(size), 0, Math.min(size, 100));
      expect(bodyOf(await invoke(session, payload)).equals(payload)).toBe(true);
    }
  });

  it('matches answers to invocations when many large and small ones run at once', async () => {
    const controlPlane = await new ControlPlane().start();
    agent(controlPlane);
    const session = await controlPlane.session();
    const payloads = Array.from({ length: 60 }, (_, i) => Buffer.alloc(i % 3 === 0 ? 300_000 : 50, `body ${i} `));
    const answers = await Promise.all(payloads.map((payload) => invoke(session, payload)));
    expect(answers.every((answer, i) => bodyOf(answer).equals(payloads[i] ?? Buffer.alloc(0)))).toBe(true);
  });

  it('delivers the log lines of an invocation before its result', async () => {
    const controlPlane = await new ControlPlane().start();
    agent(controlPlane);
    await invoke(await controlPlane.session(), Buffer.from('{}'));
    expect(controlPlane.logs.flatMap((batch) => batch.lines.map((line) => line.text))).toEqual(['hello']);
  });

  it('answers an open invocation as lost when the agent goes, and never sends it again', async () => {
    const controlPlane = await new ControlPlane().start();
    const { runner, link } = agent(controlPlane);
    runner.held = [];
    const answer = invoke(await controlPlane.session(), Buffer.from('{}'));
    await expect.poll(() => runner.started).toBe(1);
    await link.close();
    expect((await answer).kind).toBe('lost');
    const second = agent(controlPlane);
    await controlPlane.session();
    expect(second.runner.started).toBe(0);
  });

  it('gives up an invocation whose node answers nothing within its budgets', async () => {
    const controlPlane = await new ControlPlane().start();
    const { runner } = agent(controlPlane);
    runner.held = [];
    expect((await invoke(await controlPlane.session(), Buffer.from('{}'), 500)).kind).toBe('lost');
  });

  it('keeps results while the control plane is away and sends them again until they are acknowledged', async () => {
    const first = await new ControlPlane().start();
    const port = first.server?.port;
    const { runner } = agent(first);
    runner.held = [];
    const answer = invoke(await first.session(), Buffer.from('"late"'));
    await expect.poll(() => runner.started).toBe(1);
    await first.stop();
    expect((await answer).kind).toBe('lost');
    for (const finish of runner.held) finish();

    const second = await new ControlPlane().start(port);
    const session = await second.session();
    await expect.poll(() => second.unclaimed.length).toBe(1);
    expect(second.unclaimed[0]).toMatchObject({ replayed: true, functionName: 'echo' });
    expect(Buffer.from(second.unclaimed[0]?.body ?? '').toString()).toBe('"late"');
    expect(second.logs.flatMap((batch) => batch.lines)).toHaveLength(1);

    // Not acknowledged: the next session hears of it again. Acknowledged: never more.
    session.close('test');
    const third = await second.session();
    await expect.poll(() => second.unclaimed.length).toBe(2);
    const { invocationId = '', epoch = 0 } = second.unclaimed[0] ?? {};
    third.acknowledge([{ invocationId, epoch }]);
    third.acknowledgeLogs(1);
    runner.held = undefined;
    // Everything on the stream is in order: once this is answered, the acknowledgement has arrived.
    bodyOf(await invoke(third, Buffer.from('{}')));
    third.close('test');
    await second.session();
    const again = second.unclaimed.filter((end) => end.invocationId === invocationId);
    expect(again).toHaveLength(2);
  }, 30_000);

  it('carries a drain and its progress', async () => {
    const controlPlane = await new ControlPlane().start();
    const { link, drains } = agent(controlPlane);
    const session = await controlPlane.session();
    const drain = { drainId: randomUUID(), deadlineMs: 3_600_000, cancelled: false };
    session.drain(drain);
    session.drain({ ...drain, deadlineMs: undefined, cancelled: true });
    await expect.poll(() => drains).toEqual([drain, { ...drain, deadlineMs: undefined, cancelled: true }]);
    const progress = {
      ...{ drainId: drain.drainId, inFlight: 1, sandboxes: 2, inFlightMs: 3, killed: 4 },
      ...{ deadlineReached: true, complete: false },
    };
    link.reportDrain(progress);
    await expect.poll(() => controlPlane.progress).toEqual([progress]);
  });

  it('tells what it has tried as soon as it has, to a control plane that welcomed it before', async () => {
    const controlPlane = await new ControlPlane().start();
    const { link } = agent(controlPlane);
    await controlPlane.session();
    const checks = [{ isolation: 'runc', check: 'memory-limit', passed: false, detail: 'it took 192 MB', ms: 9 }];
    link.reportSelfTest(checks);
    await expect.poll(() => controlPlane.selfTests).toEqual([checks]);
  });

  it('an agent that leaves gets no new work, says so again when it has to connect again, and its next start ends it', async () => {
    const controlPlane = await new ControlPlane().start();
    const { link } = agent(controlPlane);
    const first = await controlPlane.session();
    link.leave(1_000);
    await expect.poll(() => controlPlane.leaving.length).toBe(1);
    expect(controlPlane.registry.isEligible(first)).toBe(false);
    link.greetAgain();
    await expect.poll(() => controlPlane.leaving.length, { timeout: 10_000 }).toBe(2);
    const second = await controlPlane.session();
    expect(controlPlane.registry.isEligible(second)).toBe(false);
    await link.close();
    await expect.poll(() => controlPlane.registry.size).toBe(0);
    agent(controlPlane);
    const third = await controlPlane.session();
    expect(controlPlane.registry.isEligible(third)).toBe(true);
  });

  it('greets again when the node offers less, and the control plane knows', async () => {
    const controlPlane = await new ControlPlane().start();
    const isolation = ['runc', 'gvisor'];
    const { link } = agent(controlPlane, { isolation });
    const first = await controlPlane.session();
    expect(first.hello.isolation).toEqual(['runc', 'gvisor']);
    isolation.pop();
    link.greetAgain();
    await expect.poll(() => controlPlane.registry.session('node-1')?.hello.isolation).toEqual(['runc']);
    expect(bodyOf(await invoke(await controlPlane.session(), Buffer.from('{}'))).toString()).toBe('{}');
  });

  describe('while a replica accepts a connection and does not answer yet', () => {
    /** An agent that is linked to one replica, and connects to another, behind a network that stands still. */
    async function connecting() {
      const [near, far] = [await new ControlPlane().start(), await new ControlPlane().start()];
      const network = await TcpProxy.to(far.server?.port ?? 0);
      closers.push(() => network.close());
      network.freeze();
      const tls = {
        ca: Buffer.from(authority.certificatePem),
        cert: Buffer.from(nodeCert.certificatePem),
        key: Buffer.from(nodeCert.keyPem),
      };
      const addresses = [`127.0.0.1:${near.server?.port}`, `127.0.0.1:${network.port}`];
      const scripted = new ScriptedAgent({ id: 'node-1', addresses, tls });
      closers.push(() => scripted.close());
      await expect.poll(() => network.used).toBe(true);
      return { near, far, network, scripted };
    }

    it('greets it with what runs when it answers, not with what ran before', async () => {
      const { near, far, network, scripted } = await connecting();
      const answer = invoke(await near.session(), Buffer.from('{"hold":true}'));
      await expect.poll(() => scripted.runner.held.size).toBe(1);
      const running = scripted.runner.running();
      network.thaw();
      const session = await far.session();
      expect(running.map((ref) => session.hadAtConnect(ref))).toEqual([true]);
      scripted.runner.finishAll();
      expect(bodyOf(await answer).toString()).toBe('{"hold":true}');
    });

    it('stops at once, and greets nobody any more', async () => {
      const { far, network, scripted } = await connecting();
      await scripted.close();
      network.thaw();
      await expect.poll(() => network.used).toBe(false);
      expect(far.welcomed).toEqual([]);
    });
  });

  it('lets an agent fetch only the artifacts of versions it was told to run', async () => {
    const controlPlane = await new ControlPlane().start();
    const { link } = agent(controlPlane);
    const session = await controlPlane.session();
    const fetch = fetchArtifactOver(link);
    const read = async () => {
      let bytes = 0;
      for await (const chunk of fetch(SPEC.artifactSha256)) bytes += chunk.length;
      return bytes;
    };
    await expect(read()).rejects.toThrow(/no such artifact/);
    await invoke(session, Buffer.from('{}'));
    expect(await read()).toBe(200_000 + 'default:'.length);
  });

  describe('and container images', () => {
    const layer = Buffer.alloc(300_000, 'layer');
    const sha256 = createHash('sha256').update(layer).digest('hex');
    const BUILD: Build = {
      buildId: randomUUID(),
      cacheKey: 'k',
      contextSha256: 'cd'.repeat(32),
      imageBytesMax: 500_000,
    };
    let file: string;
    beforeAll(async () => {
      file = join(await mkdtemp(join(tmpdir(), 'lf-layer-')), 'layer');
      await writeFile(file, layer);
    });
    afterAll(() => rm(dirname(file), { recursive: true }));

    /** A builder that does what the test says, and what the control plane hears of it. */
    async function building() {
      const started: { build: Build; sink: Parameters<LinkBuilder['start']>[1] }[] = [];
      const cancelled: string[] = [];
      let abandoned = 0;
      const builder: LinkBuilder = {
        start: (build, sink) => started.push({ build, sink }),
        cancel: (id) => cancelled.push(id),
        abandon: () => {
          abandoned += 1;
        },
      };
      const controlPlane = await new ControlPlane().start();
      const { link } = agent(controlPlane, { builder });
      const session = await controlPlane.session();
      const lines: string[] = [];
      const ends: BuildEnd[] = [];
      const lost: string[] = [];
      const give = async () => {
        session.builds.give(BUILD, 'default', {
          log: (more) => lines.push(...more.map(({ text }) => text)),
          ended: (end) => ends.push(end),
          lost: (reason) => lost.push(reason),
        });
        await expect.poll(() => started.length).toBe(1);
        return started[0]?.sink;
      };
      const layers = new LayerSender(() => {
        const client = link.anyReady()?.readySession?.bulkClient;
        if (client === undefined) throw new Error('down');
        return client;
      });
      const never = new AbortController().signal;
      const send = (more: object = {}) =>
        layers.send(BUILD.buildId, { sha256, bytes: layer.length, ...more }, file, never);
      const read = async (digest: string) => {
        let bytes = 0;
        for await (const chunk of fetchArtifactOver(link)(digest)) bytes += chunk.length;
        return bytes;
      };
      const end = { buildId: BUILD.buildId, outcome: BuildOutcome.FAILED, detail: 'enough', image: undefined };
      return {
        controlPlane,
        session,
        give,
        layers,
        send,
        read,
        lines,
        ends,
        lost,
        cancelled,
        end,
        abandoned: () => abandoned,
      };
    }

    it('carries a build, its lines before its end, and a cancel', async () => {
      const { session, give, lines, ends, cancelled, end } = await building();
      const sink = await give();
      sink?.log([{ unixMs: 1, stream: 1, text: 'one' }]);
      sink?.log([{ unixMs: 1, stream: 1, text: 'two' }]);
      session.builds.cancel(BUILD.buildId);
      await expect.poll(() => cancelled).toEqual([BUILD.buildId]);
      sink?.ended(end);
      await expect.poll(() => ends.length).toBe(1);
      expect(lines).toEqual(['one', 'two']);
    });

    it('refuses a build on an agent that has no builder', async () => {
      const controlPlane = await new ControlPlane().start();
      agent(controlPlane);
      const session = await controlPlane.session();
      const ended = new Promise<BuildEnd>((resolve) => {
        session.builds.give(BUILD, 'default', { log: () => {}, ended: resolve, lost: () => {} });
      });
      expect(await ended).toMatchObject({ outcome: BuildOutcome.REFUSED });
    });

    it('loses a build with its session, on both sides', async () => {
      const { session, give, lost, abandoned } = await building();
      await give();
      session.close('gone');
      await expect.poll(abandoned).toBeGreaterThan(0);
      expect(lost).toHaveLength(1);
    });

    it('lets an agent see and put layers for a build that it was given, while it runs', async () => {
      const { controlPlane, give, layers, send, end } = await building();
      await expect(layers.stored(BUILD.buildId, [sha256])).rejects.toThrow(/no such build/);
      await expect(send()).rejects.toThrow(/no such build/);
      const sink = await give();
      expect(await layers.stored(BUILD.buildId, [sha256])).toEqual([]);
      await send();
      const stored = controlPlane.layers.get(`default/${sha256}`) ?? Buffer.alloc(0);
      expect(gunzipSync(stored).equals(layer)).toBe(true);
      expect(await layers.stored(BUILD.buildId, [sha256])).toMatchObject([{ sha256 }]);
      sink?.ended(end);
      await expect.poll(() => send().catch((err: Error) => err.message)).toMatch(/no such build/);
      await expect(layers.stored(BUILD.buildId, [sha256])).rejects.toThrow(/no such build/);
    });

    it.each<[string, object, RegExp]>([
      ['that is no digest', { sha256: '../../x' }, /malformed/],
      ['that is larger than the image may be', { bytes: 500_001 }, /larger than the image may be/],
    ])('takes no layer %s', async (_, more, reason) => {
      const { controlPlane, give, send } = await building();
      await give();
      await expect(send(more)).rejects.toThrow(reason);
      expect(controlPlane.layers.size).toBe(0);
    });

    it('takes no more layers than the image may have in all', async () => {
      const { give, send } = await building();
      await give();
      await send();
      await expect(send({ sha256: 'e'.repeat(64) })).rejects.toThrow(/larger than the image may be/);
    });

    it('lets an agent fetch the context of its build, and the layers of images that it was told to run', async () => {
      const { session, give, read, end } = await building();
      await expect(read(BUILD.contextSha256)).rejects.toThrow(/no such artifact/);
      const sink = await give();
      expect(await read(BUILD.contextSha256)).toBeGreaterThan(0);
      sink?.ended(end);
      await expect.poll(() => read(BUILD.contextSha256).catch((err: Error) => err.message)).toMatch(/no such artifact/);
      await expect(read(sha256)).rejects.toThrow(/no such artifact/);
      const image = {
        ...{ architecture: 'x64', layers: [{ sha256, bytes: layer.length }], entrypoint: [], command: [] },
        ...{ environment: [], workingDirectory: '', port: 0 },
      };
      const spec = { ...SPEC, versionId: randomUUID(), artifactSha256: 'ef'.repeat(32), image };
      session.warm([{ spec, isolation: 'runc', sandboxes: 0 }]);
      expect(await read(sha256)).toBeGreaterThan(0);
      await expect(read('ef'.repeat(32))).rejects.toThrow(/no such artifact/);
    });
  });

  it('turns away a certificate of another authority', async () => {
    const controlPlane = await new ControlPlane().start();
    const foreign = await issueCertificate(await issueAuthority(), {
      commonName: 'node-1',
      usage: 'client',
      dnsNames: [],
      addresses: [],
    });
    const { link } = agent(controlPlane, { cert: foreign });
    await new Promise((resolve) => setTimeout(resolve, 500));
    expect(link.anyReady()).toBeUndefined();
    expect(controlPlane.registry.size).toBe(0);
  });

  it('turns away a node that the control plane does not want', async () => {
    const controlPlane = await new ControlPlane().start();
    const { link } = agent(controlPlane, { isolation: ['forbidden'] });
    await new Promise((resolve) => setTimeout(resolve, 500));
    expect(link.anyReady()).toBeUndefined();
    expect(controlPlane.registry.size).toBe(0);
  });
});
