import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Authority, issueAuthority, issueCertificate } from '@lambda-fleet/common/certificates/issue-certificate';
import { Lifecycle } from '@lambda-fleet/common/lifecycle';
import { Secret } from '@lambda-fleet/common/secret';
import { zipSync } from 'fflate';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readConfig as readControlPlaneConfig } from '../../control-plane/src/config.js';
import { startTestPostgres, type TestPostgres } from '../../control-plane/src/db/test-postgres.js';
import { type RunningControlPlane, wireControlPlane } from '../../control-plane/src/wiring.js';
import { readConfig as readAgentConfig } from '../../node-agent/src/config.js';
import { wireAgent } from '../../node-agent/src/wiring.js';
import { EngineOfItsOwn } from '../../node-agent/test-support/engine-of-its-own.js';
import { imageProgram } from '../../node-agent/test-support/image-program.js';
import { noteImages } from '../../node-agent/test-support/images-left.js';
import { type HttpAnswer, httpCall } from './fleet/http-call.js';

const log = pino({ level: 'silent' });

interface Build {
  readonly id: string;
  readonly state: string;
  readonly nodeId: string | null;
  readonly error: { readonly code: string; readonly message: string } | null;
}

/** A control plane, and two agents with an engine each, of which only the first builds. */
describe('container images on a fleet of two engines', () => {
  let folder: string;
  let removeImages: () => Promise<void>;
  let postgres: TestPostgres;
  let authority: Authority;
  let controlPlane: RunningControlPlane;
  let other: EngineOfItsOwn;
  let program: Buffer;
  const controlPlaneLife = new Lifecycle(log);
  const agents = new Map<string, Lifecycle>();

  beforeAll(async () => {
    removeImages = await noteImages();
    folder = await mkdtemp(join(tmpdir(), 'lf-images-'));
    program = await imageProgram();
    [postgres, authority, other] = await Promise.all([startTestPostgres(), issueAuthority(), EngineOfItsOwn.start()]);
    await other.copyImages('lambda-fleet/runtime-provided:current');
    const tls = await tlsFiles('control-plane', 'server');
    const config = readControlPlaneConfig({
      ...{
        ...tls,
        DATABASE_URL: 'postgres://replaced',
        LAMBDA_HTTP_PORT: '0',
        LAMBDA_GRPC_PORT: '0',
        LAMBDA_DEV: 'true',
      },
      ...{ LAMBDA_API_KEY_FILE: join(folder, 'api-key'), LAMBDA_IMAGE_MB_MAX: '256' },
    });
    const databaseUrl = new Secret(postgres.url);
    controlPlane = await wireControlPlane({ ...config, databaseUrl }, log, controlPlaneLife);
    await startAgent('builder', process.env.DOCKER_HOST, { LAMBDA_BUILDS: 'true', LAMBDA_BUILD_TIMEOUT_S: '60' });
  });
  afterAll(async () => {
    for (const life of agents.values()) await life.close();
    await controlPlaneLife.close();
    await postgres?.close();
    await other?.stop();
    await removeImages();
    await rm(folder, { recursive: true, force: true });
  });

  async function tlsFiles(commonName: string, usage: 'server' | 'client'): Promise<Record<string, string>> {
    const names =
      usage === 'server' ? { dnsNames: ['localhost'], addresses: ['127.0.0.1'] } : { dnsNames: [], addresses: [] };
    const { certificatePem, keyPem } = await issueCertificate(authority, { commonName, usage, ...names });
    const files = { CA: authority.certificatePem, CERT: certificatePem, KEY: keyPem };
    const entries = Object.entries(files).map(async ([name, text]) => {
      const path = join(folder, `${commonName}-${name}`);
      await writeFile(path, text);
      return [`LAMBDA_TLS_${name}`, path] as const;
    });
    return Object.fromEntries(await Promise.all(entries));
  }

  async function startAgent(
    id: string,
    dockerHost: string | undefined,
    env: Record<string, string> = {},
  ): Promise<void> {
    const life = new Lifecycle(log);
    agents.set(id, life);
    const config = readAgentConfig({
      ...(await tlsFiles(id, 'client')),
      ...{ LAMBDA_CONTROL_PLANE: `localhost:${controlPlane.grpcPort}`, LAMBDA_DATA_DIR: join(folder, id) },
      ...{ LAMBDA_DRIVER: 'docker', LAMBDA_MEMORY_MB: '3072', LAMBDA_BLANKS: '0', DOCKER_HOST: dockerHost },
      ...env,
    });
    await new Promise<void>((welcomed, failed) => {
      wireAgent(config, log, life, welcomed).catch(failed);
    });
  }

  async function stopAgent(id: string): Promise<void> {
    await agents.get(id)?.close();
    agents.delete(id);
  }

  async function api(method: string, path: string, body?: object): Promise<HttpAnswer> {
    const key = (await readFile(join(folder, 'api-key'), 'utf8')).trim();
    const headers = { authorization: `Bearer ${key}`, 'content-type': 'application/json' };
    const text = body === undefined ? undefined : JSON.stringify(body);
    return await httpCall({ port: controlPlane.httpPort, method, path, headers, body: text, timeoutMs: 120_000 });
  }

  const SCRATCH = 'FROM scratch\nCOPY program /program\n';

  /** Begins a build; the program is in its context. */
  async function start(name: string, dockerfile: string, definition: object = {}): Promise<Build> {
    // A zip that says who may run what.
    const executable = { os: 3, attrs: (0o100755 << 16) >>> 0 } as const;
    const zip = zipSync({ Dockerfile: Buffer.from(dockerfile), program: [program, executable] });
    const code = { zip: Buffer.from(zip).toString('base64') };
    const answer = await api('POST', `/api/functions/${name}/builds`, { ...definition, code });
    expect(answer.status, answer.text).toBe(202);
    return answer.json<Build>();
  }

  const look = async (name: string, { id }: Build) =>
    (await api('GET', `/api/functions/${name}/builds/${id}`)).json<Build>();

  async function finished(name: string, build: Build): Promise<Build & { readonly log: string }> {
    await expect
      .poll(async () => (await look(name, build)).state, { timeout: 60_000, interval: 200 })
      .toMatch(/succeeded|failed|cancelled/);
    const { logs } = (await api('GET', `/api/functions/${name}/builds/${build.id}/logs`)).json<{
      logs: { text: string }[];
    }>();
    return { ...(await look(name, build)), log: logs.map(({ text }) => text).join('\n') };
  }

  const build = async (name: string, dockerfile: string, definition: object = {}) => {
    const ended = await finished(name, await start(name, dockerfile, definition));
    expect(ended.state, `${JSON.stringify(ended.error)}\n${ended.log}`).toBe('succeeded');
    return ended;
  };
  const invoke = async (name: string, event: object) => {
    const answer = await api('POST', `/api/functions/${name}/invocations`, event);
    expect(answer.status, answer.text).toBe(200);
    return answer;
  };
  const countOf = async (table: string) => {
    const [row] = await postgres.database.run(
      'count',
      (sql) => sql<{ n: number }[]>`select count(*) as n from ${sql(table)}`,
    );
    return row?.n ?? -1;
  };

  it('an image is built, deployed, called on both ways, and each layer stored once', async () => {
    const first = await build('api-image', `${SCRATCH}CMD ["/program","api"]\n`);
    expect(first.nodeId).toBe('builder');
    expect(first.log).toContain('1 layers, 0 of them stored already');
    expect((await invoke('api-image', { n: 1 })).json()).toMatchObject({ event: { n: 1 }, gid: 65534 });
    const artifacts = await countOf('artifacts');
    const second = await build('http-image', `${SCRATCH}EXPOSE 8080\nCMD ["/program","serve"]\n`, {
      httpAuth: 'public',
    });
    expect(second.log).toContain('1 layers, 1 of them stored already');
    // The context and the description are new, the layer is not.
    expect(await countOf('artifacts')).toBe(artifacts + 2);
    const answer = await httpCall({ port: controlPlane.httpPort, path: '/fn/http-image/a/b?c=d' });
    expect(answer.json()).toMatchObject({ line: 'GET /a/b?c=d HTTP/1.1', PORT: '8080' });
    expect(answer.headers['set-cookie']).toEqual(['a=1', 'b=2']);
    expect((await api('GET', '/api/functions/http-image')).json()).toMatchObject({
      ...{ runtime: 'image', packageType: 'image' },
      image: { port: 8080, command: ['/program', 'serve'] },
    });
  });

  it('changes of the configuration need no build', async () => {
    const patched = await api('PATCH', '/api/functions/http-image', { environment: { GREETING: 'hi' } });
    expect(patched.json()).toMatchObject({ version: 2 });
    expect((await invoke('http-image', {})).json()).toMatchObject({ line: 'POST / HTTP/1.1', GREETING: 'hi' });
    const broken = await api('PATCH', '/api/functions/http-image', { image: { port: 8080, command: ['/none'] } });
    expect(broken.json()).toMatchObject({ error: { code: 'handler_not_found' } });
    expect((await api('GET', '/api/functions/http-image')).json().version).toBe(2);
  });

  it('an image that was built on one engine runs on another, which fetches it', async () => {
    await startAgent('runner', other.host);
    await stopAgent('builder');
    const answer = await invoke('api-image', { where: 'runner' });
    expect(answer.headers['x-lambda-node']).toBe('runner');
    expect(answer.json()).toMatchObject({ event: { where: 'runner' } });
    const tags = (await other.docker.listImages()).flatMap(({ RepoTags }) => RepoTags ?? []);
    expect(tags.filter((tag) => tag.startsWith('lambda-fleet/function:'))).toHaveLength(1);
  });

  it('without a node that builds a build waits a little and then says what to do', async () => {
    const ended = await finished('nobody', await start('nobody', SCRATCH));
    expect(ended).toMatchObject({ state: 'failed', error: { code: 'not_started' } });
    expect(ended.error?.message).toContain('LAMBDA_BUILDS=true');
    await startAgent('builder', process.env.DOCKER_HOST, { LAMBDA_BUILDS: 'true' });
  });

  it('a build that fails has its output, and leaves the version that runs', async () => {
    const before = (await api('GET', '/api/functions/api-image')).json().version;
    const ended = await finished(
      'api-image',
      await start('api-image', 'FROM lambda-fleet/base:bookworm\nRUN echo oh no && exit 7\n'),
    );
    expect(ended).toMatchObject({ state: 'failed', error: { code: 'build_failed' } });
    expect(ended.error?.message).toContain('non-zero code: 7');
    expect(ended.log).toContain('oh no');
    expect((await api('GET', '/api/functions/api-image')).json().version).toBe(before);
  });

  it('an image that is larger than it may be is refused', async () => {
    const large = 'FROM lambda-fleet/base:bookworm\nRUN head -c 200000000 /dev/urandom > /large\nCMD ["/x"]\n';
    const ended = await finished('large', await start('large', large));
    expect(ended.error?.message).toContain('may have 256 MB');
  });

  it('a build that is cancelled stops, and the next one runs', async () => {
    const sleeping = await start('cancelled', 'FROM lambda-fleet/base:bookworm\nRUN echo up && sleep 600\n');
    await expect.poll(async () => (await look('cancelled', sleeping)).state, { timeout: 20_000 }).toBe('building');
    expect((await api('POST', `/api/functions/cancelled/builds/${sleeping.id}/cancel`)).status).toBe(202);
    expect(await finished('cancelled', sleeping)).toMatchObject({ state: 'cancelled' });
    await build('cancelled', `${SCRATCH}CMD ["/program","api"]\n`);
  });

  it('two deploys of different functions at once are both built', async () => {
    const [one, two] = await Promise.all(
      ['one', 'two'].map((name) => start(name, `${SCRATCH}ENV A=${name}\nCMD ["/program","api"]\n`)),
    );
    const ends = await Promise.all([one, two].map((each, i) => each && finished(i === 0 ? 'one' : 'two', each)));
    expect(ends.map((end) => end?.state)).toEqual(['succeeded', 'succeeded']);
    expect(ends.some((end) => end?.log.includes('Waiting for a node: it builds another image'))).toBe(true);
  });

  it('a build ends with its agent, and the agent that comes back builds', async () => {
    const orphan = await start('orphan', 'FROM lambda-fleet/base:bookworm\nRUN sleep 600\n');
    await expect.poll(async () => (await look('orphan', orphan)).state, { timeout: 20_000 }).toBe('building');
    await stopAgent('builder');
    expect(await finished('orphan', orphan)).toMatchObject({ state: 'failed', error: { code: 'unavailable' } });
    await startAgent('builder', process.env.DOCKER_HOST, { LAMBDA_BUILDS: 'true' });
    await build('orphan', `${SCRATCH}CMD ["/program","api"]\n`);
  });
});
