import { gunzipSync, gzipSync } from 'node:zlib';
import { SANDBOX_USER_FIRST, SANDBOX_USERS } from '@lambda-fleet/common/sandbox-users';
import { InvokeKind, Outcome, StartPath, type VersionSpec } from '@lambda-fleet/proto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { BuilderUnderTest, type Files } from '../../test-support/builder-under-test.js';
import { EngineOfItsOwn } from '../../test-support/engine-of-its-own.js';
import { type Ended, HostUnderTest } from '../../test-support/host-under-test.js';
import { imageProgram } from '../../test-support/image-program.js';

const OWN_USER = expect.toSatisfy(
  (uid: number) => uid >= SANDBOX_USER_FIRST && uid < SANDBOX_USER_FIRST + SANDBOX_USERS,
);

let builder: BuilderUnderTest;
let program: Buffer;
beforeAll(async () => {
  program = await imageProgram();
  builder = await BuilderUnderTest.open();
});
afterAll(() => builder.close());

const SCRATCH = 'FROM scratch\nCOPY program /bin/program\nENV GREETING=hello=world\nWORKDIR /srv\n';
const API = `${SCRATCH}ENTRYPOINT ["/bin/program"]\nCMD ["api"]\n`;
const SERVER = `${SCRATCH}EXPOSE 8080\nENTRYPOINT ["program"]\nCMD ["serve"]\n`;

async function deploy(
  node: HostUnderTest,
  dockerfile: string,
  more: { readonly files?: Files; readonly port?: number; readonly spec?: Partial<VersionSpec> } = {},
): Promise<VersionSpec> {
  const { end } = await builder.build({ Dockerfile: dockerfile, program, ...more.files });
  const { image } = end;
  if (image === undefined) throw new Error(`it was not built: ${end.detail}`);
  node.layers = builder.layers.layers;
  const { exposedPorts, ...rest } = image;
  const port = more.port ?? exposedPorts[0] ?? 0;
  return await node.deploy({}, { runtime: 'image', handler: 'api', image: { ...rest, port }, ...more.spec });
}

const httpEvent = (path: string, more: object = {}) => ({
  ...{ version: '2.0', rawPath: path, rawQueryString: '', headers: { host: 'x' }, isBase64Encoded: false },
  requestContext: { http: { method: 'GET', path } },
  ...more,
});
const seen = (end: Ended) => {
  expect(end.outcome, JSON.stringify(end.error)).toBe(Outcome.SUCCESS);
  return JSON.parse(end.text) as Record<string, unknown>;
};

describe.each([
  ['docker', 'runc'],
  ['docker', 'gvisor'],
  ['docker in a VM', 'runc'],
] as const)('a container image on the driver %s under %s', (driver, isolation) => {
  let node: HostUnderTest;
  beforeAll(async () => {
    node = await HostUnderTest.open(driver);
  });
  afterAll(() => node.close());
  const call = (spec: VersionSpec, event: unknown, kind: InvokeKind = InvokeKind.EVENT) =>
    node.call(spec, { event, kind, isolation });

  test('is offered where the engine has the init', () => {
    expect(node.host.runtimes).toContainEqual({ name: 'image', digest: process.arch });
  });

  test('speaks the Runtime API from an image with nothing else in it, and stays warm', async () => {
    const spec = await deploy(node, API, { spec: { environment: { GREETING: 'mine' } } });
    const first = await call(spec, { n: 1 });
    expect(seen(first)).toMatchObject({
      ...{ event: { n: 1 }, uid: OWN_USER, gid: 65534, cwd: '/srv', count: 1, GREETING: 'mine', _HANDLER: 'api' },
      ...{ AWS_LAMBDA_FUNCTION_NAME: 'under-test', rootWritable: false, tmpWritable: true },
    });
    expect(seen(first)).not.toHaveProperty('LAMBDA_NONCE');
    expect(seen(first)).not.toHaveProperty('LAMBDA_CHANNEL');
    expect(first.receipt?.start).toBe(StartPath.COLD);
    const second = await call(spec, { n: 2 });
    expect(seen(second)).toMatchObject({ count: 2, event: { n: 2 } });
    expect(second.receipt?.start).toBe(StartPath.WARM);
  });

  test('serves HTTP on its port', async () => {
    const spec = await deploy(node, SERVER);
    const event = httpEvent('/a%20b', {
      ...{ rawQueryString: 'q=1', body: Buffer.from('{"in":1}').toString('base64'), isBase64Encoded: true },
      requestContext: { http: { method: 'PUT' } },
    });
    const answer = await call(spec, event, InvokeKind.HTTP);
    expect(seen(answer)).toMatchObject({ line: 'PUT /a%20b?q=1 HTTP/1.1', event: { in: 1 }, PORT: '8080' });
    expect(answer.http).toMatchObject({ statusCode: 200, cookies: ['a=1', 'b=2'] });
    expect(seen(await call(spec, { plain: true }))).toMatchObject({ line: 'POST / HTTP/1.1', event: { plain: true } });
    expect((await call(spec, httpEvent('/teapot'), InvokeKind.HTTP)).http?.statusCode).toBe(418);
    expect((await call(spec, { text: 'x'.repeat(3_000_000) })).outcome).toBe(Outcome.SUCCESS);
  });

  test('tells what its server did instead of answering', async () => {
    const spec = await deploy(node, SERVER, { spec: { timeoutMs: 2_000 } });
    const reset = await call(spec, httpEvent('/reset'), InvokeKind.HTTP);
    expect(reset).toMatchObject({ outcome: Outcome.FUNCTION_ERROR, error: { errorType: 'Function.HttpError' } });
    expect((await call(spec, httpEvent('/hang'), InvokeKind.HTTP)).outcome).toBe(Outcome.TIMEOUT);
    const exit = await call(spec, httpEvent('/exit'), InvokeKind.HTTP);
    expect(exit.error).toMatchObject({ errorType: 'Runtime.ExitError' });
    expect(exit.error?.errorMessage).toContain('exit status 9');
    expect((await call(spec, httpEvent('/close'), InvokeKind.HTTP)).outcome).toBe(Outcome.SUCCESS);
    expect((await call(spec, httpEvent('/'), InvokeKind.HTTP)).error?.errorMessage).toContain('port 8080');
  });

  test.each<[string, string, string]>([
    ['a program that is not there', `${SCRATCH}CMD ["/none"]\n`, 'Runtime.InvalidEntrypoint'],
    ['a program that is none', 'FROM scratch\nCOPY Dockerfile /x\nCMD ["/x"]\n', 'Runtime.InvalidEntrypoint'],
    ['a folder that is a file', `${SCRATCH}WORKDIR /\nCMD ["/bin/program","api"]\n`, 'Runtime.InvalidWorkingDir'],
    ['a program that ends', `${SCRATCH}CMD ["/bin/program","exit"]\n`, 'Runtime.ExitError'],
  ])('says what is wrong with %s', async (_, dockerfile, errorType) => {
    const spec = await deploy(node, dockerfile);
    if (errorType === 'Runtime.InvalidWorkingDir' && spec.image) spec.image.workingDirectory = '/bin/program';
    expect(await call(spec, {})).toMatchObject({ outcome: Outcome.FUNCTION_ERROR, error: { errorType } });
  });

  test('does not wait for ever for a port that nobody opens', async () => {
    const waits = `${SCRATCH}CMD ["/bin/program","wait"]\n`;
    const spec = await deploy(node, waits, { port: 9_999, spec: { initTimeoutMs: 1_000 } });
    expect((await call(spec, {})).outcome).toBe(Outcome.TIMEOUT);
  });

  test('writes no volume, runs no health check, and is nobody, whatever its Dockerfile says', async () => {
    const extra = 'VOLUME /data\nUSER 0\nHEALTHCHECK CMD ["/bin/program","exit"]\nSTOPSIGNAL SIGWINCH\n';
    const spec = await deploy(node, `${API}${extra}`);
    expect(seen(await call(spec, {}))).toMatchObject({ uid: OWN_USER, volumeWritable: false });
  });

  test('has its output logged under the invocation', async () => {
    const spec = await deploy(node, SERVER);
    const first = await call(spec, httpEvent('/logged'), InvokeKind.HTTP);
    // The engine delivers output after the result, too.
    await expect.poll(() => first.logs.map(({ text }) => text).join()).toContain('served GET /logged');
  });

  test('runs several requests at a time in one sandbox where it may', async () => {
    const spec = await deploy(node, SERVER, { spec: { concurrency: 4 } });
    const ends = await Promise.all([1, 2, 3, 4].map((n) => call(spec, { n })));
    const sandboxes = new Set(ends.map(({ receipt }) => receipt?.sandboxId));
    expect(ends.map((end) => seen(end).event)).toEqual([{ n: 1 }, { n: 2 }, { n: 3 }, { n: 4 }]);
    const again = await Promise.all([1, 2, 3, 4].map((n) => call(spec, { n })));
    expect(new Set(again.map(({ receipt }) => receipt?.sandboxId)).size).toBeLessThanOrEqual(sandboxes.size);
  });
});

describe('images on a node that did not build them', () => {
  let engine: EngineOfItsOwn;
  let node: HostUnderTest;
  beforeAll(async () => {
    engine = await EngineOfItsOwn.start();
    await engine.copyImages('lambda-fleet/runtime-provided:current');
    node = await HostUnderTest.open('docker', { dockerHost: engine.host, imageBytesMax: 130 * 1024 * 1024 });
  });
  afterAll(async () => {
    await node?.close();
    await engine?.stop();
  });
  const tags = async () =>
    (await engine.docker.listImages())
      .flatMap(({ RepoTags }) => RepoTags ?? [])
      .filter((tag) => tag.includes('function:'));

  test('run, and each layer is fetched once', async () => {
    const spec = await deploy(node, API);
    const fetched = node.fetches;
    const ends = await Promise.all([1, 2, 3].map((n) => node.call(spec, { event: { n } })));
    expect(ends.map((end) => seen(end).event)).toEqual([{ n: 1 }, { n: 2 }, { n: 3 }]);
    expect(node.fetches - fetched).toBe(spec.image?.layers.length);
    const variant = await deploy(node, `${API}COPY Dockerfile /more\n`);
    const before = node.fetches;
    expect(seen(await node.call(variant))).toMatchObject({ count: 1 });
    expect(node.fetches - before).toBe(1);
  });

  test('stand on layers that other images of the engine have', async () => {
    const spec = await deploy(node, `FROM lambda-fleet/base:bookworm\nCOPY program /program\nCMD ["/program","api"]\n`);
    const before = node.fetches;
    expect(seen(await node.call(spec))).toMatchObject({ count: 1 });
    // The base is below the image of the provided runtime.
    expect(node.fetches - before).toBe((spec.image?.layers.length ?? 0) - 1);
  });

  test('are loaded again when somebody removed them', async () => {
    const spec = await deploy(node, API);
    seen(await node.call(spec, { singleUse: true }));
    for (const tag of await tags()) await engine.docker.getImage(tag).remove({ force: true });
    seen(await node.call(spec, { singleUse: true }));
  });

  test('whose layer is not what it says are not started, and leave nothing', async () => {
    const good = await deploy(node, `${API}COPY Dockerfile /lie\n`);
    const layers = new Map(node.layers);
    const last = good.image?.layers.at(-1);
    const bytes = gunzipSync(layers.get(last?.sha256 ?? '') ?? '');
    bytes.write('forged', 600);
    const packed = gzipSync(bytes);
    const lies = [packed, gzipSync(bytes.subarray(0, 1_000)), gzipSync(Buffer.alloc(99_000_000)), bytes];
    for (const lie of [...lies, packed.subarray(0, 100)]) {
      layers.set(last?.sha256 ?? '', lie);
      node.layers = layers;
      const before = await tags();
      const end = await node.call(good);
      expect(end).toMatchObject({ outcome: Outcome.NOT_STARTED });
      expect(end.error?.errorMessage).toMatch(/checksum|shorter|longer|header|unexpected end/);
      expect(await tags()).toEqual(before);
    }
    node.layers = builder.layers.layers;
    seen(await node.call(good));
  });

  test('whose description names layers that are not there are not started', async () => {
    const spec = await deploy(node, API);
    const image = spec.image && { ...spec.image, layers: [{ sha256: 'a'.repeat(64), bytes: 10_240 }] };
    expect(await node.call({ ...spec, versionId: 'lie', image })).toMatchObject({ outcome: Outcome.NOT_STARTED });
  });

  test('that are a foreign layer with devices and links out of it harm nobody but themselves', async () => {
    const spec = await deploy(
      node,
      'FROM lambda-fleet/base:bookworm\nCOPY program /program\nRUN mknod /disk b 8 0; ln -s /proc/1/root /out; rm -f /etc/motd; chmod u+s /program\nCMD ["/program","api"]\n',
    );
    expect(seen(await node.call(spec))).toMatchObject({ uid: OWN_USER, rootWritable: false });
  });

  test('that no sandbox uses are removed above the limit, and never one that is used', async () => {
    const base = 'FROM lambda-fleet/base:bookworm\nCOPY program /program\n';
    const used = await deploy(node, `${base}RUN head -c 20000000 /dev/urandom > /a\nCMD ["/program","api"]\n`);
    seen(await node.call(used));
    const usedTag = (await tags()).length;
    for (const name of ['b', 'c']) {
      const spec = await deploy(node, `${base}RUN head -c 20000000 /dev/urandom > /${name}\nCMD ["/program","api"]\n`);
      seen(await node.call(spec, { singleUse: true }));
    }
    await expect.poll(async () => (await tags()).length, { timeout: 10_000 }).toBeLessThanOrEqual(usedTag + 1);
    const again = await node.call(used);
    expect(again.receipt?.start).toBe(StartPath.WARM);
  });
});
