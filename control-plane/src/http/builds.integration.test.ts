import { createHash, randomBytes } from 'node:crypto';
import { gzipSync } from 'node:zlib';
import { type Build, type BuildEnd, BuildOutcome, type BuiltImage, LogStream } from '@lambda-fleet/proto';
import { strToU8, zipSync } from 'fflate';
import { pino } from 'pino';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { LayerStore } from '../artifacts/layer-store.js';
import { PostgresArtifactStore } from '../artifacts/postgres-artifact-store.js';
import { NodeSession } from '../nodes/node-session.js';
import { startTestControlPlane, type TestControlPlane } from './test-control-plane.js';

const DOCKERFILE = { source: 'FROM scratch' };

/** A node that builds as the test says. */
class Builder {
  readonly builds: Build[] = [];
  readonly cancelled: string[] = [];
  readonly session: NodeSession;
  behave: (build: Build) => void = () => {};

  constructor(
    readonly nodeId: string,
    private readonly plane: TestControlPlane,
  ) {
    const hello = {
      ...{ protocolMin: 1, protocolMax: 1, agentVersion: 'test', bootId: 'b', labels: {}, runtimes: [] },
      ...{
        isolation: ['runc'],
        architecture: 'x64',
        networks: ['none'],
        selfTest: [],
        builds: true,
        running: [],
        keptResults: [],
        capacity: undefined,
      },
    };
    this.session = new NodeSession(
      nodeId,
      hello,
      {
        write: (messages) => {
          for (const { message } of messages) {
            if (message?.$case === 'build') {
              this.builds.push(message.value);
              this.behave(message.value);
            }
            if (message?.$case === 'cancelBuild') {
              this.cancelled.push(message.value.buildId);
              this.end(message.value.buildId, BuildOutcome.CANCELLED);
            }
          }
          return true;
        },
        end: () => {},
      },
      {
        onCapacity: () => {},
        onUnclaimedResult: () => {},
        onDrainProgress: () => {},
        onLeaving: () => {},
        onSelfTest: () => {},
        onLogs: () => {},
        onClosed: (session) => plane.registry.remove(session),
      },
      pino({ level: 'silent' }),
    );
    plane.registry.add(this.session);
  }

  log(buildId: string, ...texts: string[]): void {
    const lines = texts.map((text) => ({ unixMs: Date.now(), stream: LogStream.STDOUT, text }));
    this.session.receive({ message: { $case: 'buildLog', value: { buildId, lines } } });
  }

  end(buildId: string, outcome: BuildOutcome, more: Partial<BuildEnd> = {}): void {
    const value = { buildId, outcome, detail: '', image: undefined, ...more };
    this.session.receive({ message: { $case: 'buildEnd', value } });
  }

  /** What it builds always. */
  async image(more: Partial<BuiltImage> = {}): Promise<BuiltImage> {
    const layer = randomBytes(1_000);
    const sha256 = createHash('sha256').update(layer).digest('hex');
    const { database } = this.plane.postgres;
    const layers = new LayerStore(database, new PostgresArtifactStore(database));
    await layers.put(
      'default',
      { sha256, bytes: layer.length },
      (async function* () {
        yield gzipSync(layer);
      })(),
    );
    return {
      ...{ architecture: 'x64', layers: [{ sha256, bytes: layer.length }], entrypoint: ['/app'], command: ['serve'] },
      ...{ environment: ['A=b'], workingDirectory: '/srv', exposedPorts: [], ...more },
    };
  }
}

describe('builds', () => {
  let plane: TestControlPlane;
  let builder: Builder;
  beforeAll(async () => {
    plane = await startTestControlPlane();
  });
  afterAll(() => plane.close());
  beforeEach(() => {
    for (const session of [...plane.registry.sessions()]) session.close('next test');
    builder = new Builder('builder', plane);
    plane.behave.check = () => ({});
    plane.invoked.length = 0;
  });

  const builds = (name: string) => `/api/functions/${name}/builds`;
  const start = async (name: string, definition: object = {}): Promise<string> => {
    const { status, body } = await plane.call('POST', builds(name), { ...definition, code: DOCKERFILE });
    expect({ status, body }).toMatchObject({ status: 202 });
    return String(body.id);
  };
  const stateOf = async (name: string, id: string) => (await plane.call('GET', `${builds(name)}/${id}`)).body.state;
  const finished = async (name: string, id: string) => {
    await expect.poll(() => stateOf(name, id), { timeout: 10_000 }).toMatch(/succeeded|failed|cancelled/);
    return (await plane.call('GET', `${builds(name)}/${id}`)).body;
  };
  const succeedWith = (more: Partial<BuiltImage> = {}) => {
    builder.behave = async ({ buildId }) => {
      builder.log(buildId, 'Step 1/1 : FROM scratch');
      builder.end(buildId, BuildOutcome.SUCCEEDED, { image: await builder.image(more) });
    };
  };

  it('end in a version, after the image was started once in a sandbox', async () => {
    succeedWith({ exposedPorts: [9_000] });
    const id = await start('made', { memoryMb: 256 });
    expect(await finished('made', id)).toMatchObject({
      state: 'succeeded',
      version: 1,
      nodeId: 'builder',
      error: null,
    });
    const { body } = await plane.call('GET', '/api/functions/made');
    expect(body).toMatchObject({
      ...{ version: 1, runtime: 'image', packageType: 'image', memoryMb: 256, codeBytes: 1_000 },
      image: { architecture: 'x64', port: 9_000, entrypoint: ['/app'], command: ['serve'], workingDirectory: '/srv' },
    });
    const [check] = plane.invoked;
    expect(check?.spec).toMatchObject({ runtime: 'image', handler: 'serve' });
    expect(check?.spec.image).toMatchObject({ port: 9_000, environment: ['A=b'], layers: [{ bytes: 1_000 }] });
    const { body: log } = await plane.call('GET', `${builds('made')}/${id}/logs`);
    expect(log).toMatchObject({
      logs: [
        { sequence: 1, stream: 'platform', text: 'Building on builder' },
        { sequence: 2, stream: 'stdout', text: 'Step 1/1 : FROM scratch' },
      ],
    });
    expect((await plane.call('GET', builds('made'))).body).toMatchObject({ builds: [{ id }], nextCursor: null });
  });

  it('are given the context, and only while they run', async () => {
    const id = await start('lent');
    await expect.poll(() => builder.builds.length).toBe(1);
    const sha256 = builder.builds[0]?.contextSha256 ?? '';
    expect(builder.session.projectOfArtifact(sha256)).toBe('default');
    builder.end(id, BuildOutcome.FAILED, { detail: 'no' });
    expect(builder.session.projectOfArtifact(sha256)).toBeUndefined();
    await finished('lent', id);
  });

  it('that fail say why and change nothing', async () => {
    succeedWith();
    await finished('kept', await start('kept'));
    builder.behave = ({ buildId }) =>
      builder.end(buildId, BuildOutcome.FAILED, { detail: 'The command returned a non-zero code: 1' });
    const failed = await finished('kept', await start('kept'));
    expect(failed).toMatchObject({
      ...{ state: 'failed', version: null },
      error: { code: 'build_failed', message: expect.stringContaining('non-zero code: 1') },
    });
    expect((await plane.call('GET', '/api/functions/kept')).body.version).toBe(1);
  });

  it.each<[string, Partial<BuiltImage>]>([
    ['names a layer that it never sent', { layers: [{ sha256: 'a'.repeat(64), bytes: 10 }] }],
    ['is larger than it may be', { layers: [{ sha256: 'a'.repeat(64), bytes: 2 * 1024 * 1024 }] }],
    ['has no layers', { layers: [] }],
    ['has a digest that is none', { layers: [{ sha256: '../etc', bytes: 1 }] }],
    ['names no program', { entrypoint: [], command: [] }],
    ['has NUL in its command', { command: ['a\0b'] }],
    ['has a variable without a name', { environment: ['=x'] }],
    ['is for an unknown machine', { architecture: 's390x' }],
    ['has an endless environment', { environment: [`A=${'x'.repeat(100_000)}`] }],
  ])('of a node whose image %s fail', async (_, lie) => {
    succeedWith(lie);
    const ended = await finished('lied', await start('lied'));
    expect(ended).toMatchObject({ state: 'failed', error: { code: 'build_failed' } });
    expect((await plane.call('GET', '/api/functions/lied')).status).toBe(404);
  });

  it('whose image does not start in a sandbox because no node is free fail, and can be repeated', async () => {
    succeedWith();
    plane.behave.check = () => ({ outcome: 'not_started', reason: 'no room' });
    expect(await finished('crowded', await start('crowded'))).toMatchObject({
      state: 'failed',
      error: { code: 'not_started' },
    });
  });

  it('end with their node', async () => {
    const id = await start('lost');
    await expect.poll(() => builder.builds.length).toBe(1);
    builder.session.close('the agent was killed');
    expect(await finished('lost', id)).toMatchObject({ state: 'failed', error: { code: 'unavailable' } });
  });

  it('go to another node when one refuses, and wait when all do', async () => {
    const second = new Builder('second', plane);
    for (const node of [builder, second]) {
      node.behave = ({ buildId }) => node.end(buildId, BuildOutcome.REFUSED, { detail: 'it builds already' });
    }
    const id = await start('patient');
    await expect.poll(() => builder.builds.length + second.builds.length).toBeGreaterThanOrEqual(2);
    expect(await stateOf('patient', id)).toBe('queued');
    const image = await second.image();
    second.behave = ({ buildId }) => second.end(buildId, BuildOutcome.SUCCEEDED, { image });
    expect(await finished('patient', id)).toMatchObject({ state: 'succeeded', nodeId: 'second' });
    const { body } = await plane.call('GET', `${builds('patient')}/${id}/logs`);
    expect(JSON.stringify(body)).toContain('Waiting for a node: it builds already');
  });

  it('are cancelled on their node, and where nobody has taken them yet', async () => {
    const running = await start('stop');
    await expect.poll(() => stateOf('stop', running)).toBe('queued');
    builder.log(running, 'Step 1');
    await expect.poll(() => stateOf('stop', running)).toBe('building');
    expect((await plane.call('POST', `${builds('stop')}/${running}/cancel`)).status).toBe(202);
    expect(await finished('stop', running)).toMatchObject({ state: 'cancelled', error: null });
    expect(builder.cancelled).toEqual([running]);
    builder.behave = ({ buildId }) => builder.end(buildId, BuildOutcome.REFUSED, { detail: 'busy' });
    const waiting = await start('stop');
    await plane.call('POST', `${builds('stop')}/${waiting}/cancel`);
    expect(await finished('stop', waiting)).toMatchObject({ state: 'cancelled' });
    expect((await plane.call('POST', `${builds('stop')}/${waiting}/cancel`)).body).toMatchObject({
      state: 'cancelled',
    });
  });

  it('of one function at the same time make one version, and the other is a conflict', async () => {
    const image = await builder.image();
    const [one, two] = [await start('race'), await start('race')];
    await expect.poll(() => builder.builds.length).toBe(2);
    let arrived = 0;
    let open = () => {};
    const both = new Promise<void>((resolve) => {
      open = resolve;
    });
    plane.behave.check = async () => {
      arrived += 1;
      if (arrived === 2) open();
      await both;
      return {};
    };
    for (const id of [one, two]) builder.end(id, BuildOutcome.SUCCEEDED, { image });
    const ends = [await finished('race', one), await finished('race', two)];
    expect(ends.map(({ state }) => state).sort()).toEqual(['failed', 'succeeded']);
    expect(ends.find(({ state }) => state === 'failed')).toMatchObject({ error: { code: 'conflict' } });
    expect((await plane.call('GET', '/api/functions/race')).body.version).toBe(1);
  });

  it('are followed from the first line to the end, and resumed after a line', async () => {
    const id = await start('told');
    await expect.poll(() => builder.builds.length).toBe(1);
    let sawChecking = () => {};
    const checkingSeen = new Promise<void>((resolve) => {
      sawChecking = resolve;
    });
    plane.behave.check = async () => {
      await checkingSeen;
      return {};
    };
    const follow = async (headers: object) => {
      const response = await fetch(`${plane.url}${builds('told')}/${id}/logs?follow=true`, {
        headers: { 'x-api-key': plane.key, ...headers },
      });
      let text = '';
      for await (const chunk of response.body?.pipeThrough(new TextDecoderStream()) ?? []) {
        text += chunk;
        if (text.includes('"state":"checking"')) sawChecking();
      }
      return text;
    };
    const followed = follow({});
    builder.log(id, 'one', 'two');
    const image = await builder.image();
    builder.log(id, 'three');
    builder.end(id, BuildOutcome.SUCCEEDED, { image });
    const events = (text: string) => text.split('\n\n').filter((event) => event.startsWith('event:'));
    const seen = events(await followed);
    const texts = seen
      .filter((event) => event.includes('event: log'))
      .map((event) => /"text":"([^"]*)"/.exec(event)?.[1]);
    expect(texts).toEqual(['Building on builder', 'one', 'two', 'three']);
    // Every line before the state that it led to.
    expect(seen.at(-2)).toContain('"state":"checking"');
    expect(seen.at(-1)).toContain('"state":"succeeded"');
    const resumed = events(await follow({ 'last-event-id': '3' }));
    expect(resumed).toHaveLength(2);
    expect(resumed[0]).toContain('"text":"three"');
  });

  it('whose control plane is gone are failed by another one', async () => {
    const { database } = plane.postgres;
    const id = '01900000-0000-7000-8000-000000000000';
    await plane.builds.insert('default', id, 'orphan', { sha256: 'a'.repeat(64), bytes: 1 });
    expect(await plane.builds.failAbandoned()).toBe(0);
    await database.run(
      'age',
      (sql) => sql`update builds set renewed_at = now() - interval '2 minutes' where id = ${id}`,
    );
    expect(await plane.builds.failAbandoned()).toBe(1);
    expect(await finished('orphan', id)).toMatchObject({ state: 'failed', error: { code: 'unavailable' } });
  });

  it('are kept, the newest 20 of each function', async () => {
    succeedWith();
    const id = await start('old');
    await finished('old', id);
    await plane.postgres.database.run(
      'more',
      (sql) => sql`
        insert into builds (id, project_id, function_name, state, context_sha256, context_bytes, finished_at)
        select gen_random_uuid(), 'default', 'old', 'failed', 'x', 1, now() from generate_series(1, 25)`,
    );
    await plane.builds.removeOld();
    expect(await plane.builds.list('default', 'old', 100)).toHaveLength(20);
  });

  it('flood nobody: a node that says too much is cut off', async () => {
    const id = await start('flood');
    await expect.poll(() => builder.builds.length).toBe(1);
    for (let i = 0; i < 30; i += 1) builder.log(id, ...Array.from({ length: 1_000 }, () => 'x'));
    builder.end(id, BuildOutcome.FAILED, { detail: 'enough' });
    await finished('flood', id);
    const [row] = await plane.postgres.database.run(
      'count',
      (sql) => sql<{ n: number }[]>`select count(*) as n from build_lines where build_id = ${id}`,
    );
    expect(row?.n).toBe(12_000);
  });

  it.each([
    [{ code: { source: 'FROM scratch', filename: 'Containerfile' } }, 400, 'invalid_archive'],
    [{ code: { zip: Buffer.from(zipSync({ 'a.txt': strToU8('x') })).toString('base64') } }, 400, 'invalid_archive'],
    [{ code: DOCKERFILE, runtime: 'nodejs' }, 400, 'invalid_request'],
    [{ code: DOCKERFILE, image: { port: 0 } }, 400, 'invalid_request'],
    [{ code: DOCKERFILE, image: { workingDirectory: 'srv' } }, 400, 'invalid_request'],
    [{ code: DOCKERFILE, image: { entrypoint: ['a\0'] } }, 400, 'invalid_request'],
    [{}, 400, 'invalid_request'],
  ])('are refused for %j', async (body, status, code) => {
    expect(await plane.call('POST', builds('refused'), body)).toMatchObject({ status, body: { error: { code } } });
    expect(builder.builds).toEqual([]);
  });

  it('of others, and those that never were, are not found', async () => {
    const nobody = '01900000-0000-7000-8000-00000000ffff';
    for (const path of [`/${nobody}`, `/${nobody}/logs`, `/${nobody}/logs?follow=true`, '/none']) {
      expect((await plane.call('GET', builds('made') + path)).body).toMatchObject({
        error: { code: 'build_not_found' },
      });
    }
    expect((await plane.call('POST', `${builds('made')}/${nobody}/cancel`)).status).toBe(404);
  });

  it('and archives do not mix: a change of what a function is needs its code', async () => {
    succeedWith();
    await finished('mixed', await start('mixed', { image: { port: 80, command: ['x'] } }));
    const change = (method: string, path: string, body: object) =>
      plane.call(method, `/api/functions/mixed${path}`, body);
    expect(await change('PATCH', '', { runtime: 'nodejs' })).toMatchObject({ status: 400 });
    expect(await change('PUT', '/code', { code: { source: '1' } })).toMatchObject({ status: 400 });
    expect(await change('PATCH', '', { memoryMb: 64 })).toMatchObject({
      status: 200,
      body: { version: 2, image: { port: 80, command: ['x'] } },
    });
    expect(await change('PATCH', '', { image: { port: null } })).toMatchObject({
      body: { version: 3, image: { port: null, command: ['serve'] } },
    });
    const code = { source: 'export const handler = () => 1' };
    expect(await change('PUT', '', { runtime: 'nodejs', code })).toMatchObject({
      body: { version: 4, packageType: 'zip', handler: 'index.handler' },
    });
    expect(await change('PATCH', '', { runtime: 'image' })).toMatchObject({ status: 400 });
    expect(await plane.call('POST', '/api/functions/test', { runtime: 'image', code })).toMatchObject({ status: 400 });
  });
});
