import { mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { noteImages } from '../../node-agent/test-support/images-left.js';
import { Fleet, REPOSITORY } from './fleet/fleet.js';
import { descendantsOf } from './fleet/processes.js';

const BASE = 'FROM lambda-fleet/base:bookworm\n';

/** As a user deploys them. */
describe('lambda deploy of a folder with a Dockerfile', () => {
  let fleet: Fleet;
  let folder: string;
  let removeImages: () => Promise<void>;
  beforeAll(async () => {
    removeImages = await noteImages();
    folder = await mkdtemp(join(tmpdir(), 'lf-image-e2e-'));
    fleet = await Fleet.start({ driver: 'docker', args: ['--builds'] });
  });
  afterAll(async () => {
    await fleet?.dispose();
    await removeImages();
    await rm(folder, { recursive: true, force: true });
  });

  async function write(dockerfile: string, more: Readonly<Record<string, string>> = {}): Promise<string> {
    const place = await mkdtemp(join(folder, 'image-'));
    for (const [name, text] of Object.entries({ Dockerfile: dockerfile, ...more })) {
      await writeFile(join(place, name), text);
    }
    return place;
  }

  it('lambda up --builds says what it allows', () => {
    expect(fleet.output).toContain('run as ROOT in containers of this Docker engine, with a network');
  });

  it('shows the build, and gives a URL that answers', async () => {
    const { code, stdout, stderr } = await fleet.cli(['deploy', join(REPOSITORY, 'examples/image-server')]);
    expect(code, stderr).toBe(0);
    const steps = [
      '[1/4] Packing',
      '[2/4] Uploading … done',
      '[3/4] Building',
      'Step 1/',
      'layers',
      '[4/4] Checking',
      'version 1, image',
    ];
    let at = 0;
    for (const step of steps) {
      expect(stderr.slice(at), stderr).toContain(step);
      at = stderr.indexOf(step, at);
    }
    expect(stdout).toBe(`http://image-server.localhost:${fleet.httpPort}/\n`);
    const answer = await fleet.function('image-server', '/hello?a=b');
    expect(answer.json()).toEqual({ message: 'Hello from a container image!', path: '/hello?a=b' });
    const invoked = await fleet.cli(['invoke', 'image-server', '-d', '{"name":"Ada"}']);
    expect(JSON.parse(invoked.stdout)).toEqual({ message: 'Hello, Ada!' });
    await expect
      .poll(async () => (await fleet.cli(['logs', 'image-server'])).stdout, { timeout: 10_000 })
      .toContain('GET /hello?a=b');
  });

  it('fails with the builder’s words and status 1, and the version that runs goes on', async () => {
    const place = await write(`${BASE}RUN echo this goes wrong && exit 3\n`);
    const failed = await fleet.cli(['deploy', place, '--name', 'image-server']);
    expect(failed.code).toBe(1);
    expect(failed.stdout).toBe('');
    expect(failed.stderr).toContain('  this goes wrong');
    expect(failed.stderr).toContain('non-zero code: 3');
    expect((await fleet.function('image-server', '/')).status).toBe(200);
  });

  it('refuses a program that cannot be started, and names it', async () => {
    const refused = await fleet.cli(['deploy', await write(`${BASE}CMD ["/nothing"]\n`), '--name', 'no-program']);
    expect(refused.code).toBe(1);
    expect(refused.stderr).toContain('The program "/nothing" cannot be started');
  });

  it('sends no link that leaves the folder, and says so before anything is sent', async () => {
    const place = await write(BASE);
    await symlink('/etc/passwd', join(place, 'secret'));
    const refused = await fleet.cli(['deploy', place, '--name', 'linked']);
    expect(refused.code).toBe(2);
    expect(refused.stderr).toContain('secret is a link out of the folder');
  });

  it('insists on the Dockerfile when lambda.json says image, and leaves it alone when it says otherwise', async () => {
    const place = await write(BASE, { 'lambda.json': '{"runtime": "image"}' });
    await rm(join(place, 'Dockerfile'));
    expect((await fleet.cli(['deploy', place, '--name', 'missing'])).stderr).toContain('has no Dockerfile');
    const code = 'export const handler = async () => "code";';
    const both = await write(BASE, { 'lambda.json': '{"runtime": "nodejs"}', 'index.mjs': code });
    expect((await fleet.cli(['deploy', both, '--name', 'both'])).code).toBe(0);
    expect((await fleet.cli(['invoke', 'both'])).stdout).toBe('"code"');
  });

  it('becomes code again, and an image again', async () => {
    const code = await write('', { 'index.mjs': 'export const handler = async () => 1;' });
    await rm(join(code, 'Dockerfile'));
    const asCode = await fleet.cli(['deploy', code, '--name', 'image-server']);
    expect(asCode.code, asCode.stderr).toBe(0);
    expect((await fleet.cli(['invoke', 'image-server'])).stdout).toBe('1');
    expect((await fleet.cli(['deploy', join(REPOSITORY, 'examples/image-server')])).code).toBe(0);
    expect((await fleet.cli(['invoke', 'image-server'])).stdout).toContain('Hello, World!');
  });

  it('is cancelled by Ctrl-C, on the node too', async () => {
    const place = await write(`${BASE}RUN echo begun && sleep 600\n`);
    const deploying = await fleet.startCli(['deploy', place, '--name', 'interrupted']);
    await expect.poll(deploying.errors, { timeout: 30_000 }).toContain('  begun');
    deploying.end();
    await expect.poll(deploying.errors, { timeout: 30_000 }).toContain('The build was cancelled');
    const { builds } = (await fleet.api('GET', '/api/functions/interrupted/builds')).json<{
      builds: { state: string }[];
    }>();
    expect(builds.map(({ state }) => state)).toEqual(['cancelled']);
  });

  it('fails when its agent is killed, which then builds the next', async () => {
    const place = await write(`${BASE}RUN echo begun && sleep 600\n`);
    const deploying = await fleet.startCli(['deploy', place, '--name', 'orphaned']);
    await expect.poll(deploying.errors, { timeout: 30_000 }).toContain('  begun');
    const agent = (await descendantsOf(fleet.process.pid ?? 0)).find(({ command }) =>
      command.includes('node-agent/dist/main.js'),
    );
    expect(agent).toBeDefined();
    process.kill(agent?.pid ?? 0, 'SIGKILL');
    await expect.poll(deploying.errors, { timeout: 30_000 }).toContain('was lost');
    await fleet.recovered();
    const next = await fleet.cli(['deploy', join(REPOSITORY, 'examples/image-server'), '--name', 'after']);
    expect(next.code, next.stderr).toBe(0);
  });

  it('goes on when the control plane is killed: the build fails, and the next one works', async () => {
    const place = await write(`${BASE}RUN echo begun && sleep 600\n`);
    const deploying = await fleet.startCli(['deploy', place, '--name', 'interval']);
    await expect.poll(deploying.errors, { timeout: 30_000 }).toContain('  begun');
    const plane = (await descendantsOf(fleet.process.pid ?? 0)).find(({ command }) =>
      command.includes('control-plane/dist/main.js'),
    );
    process.kill(plane?.pid ?? 0, 'SIGKILL');
    await expect.poll(deploying.errors, { timeout: 30_000 }).toContain('The connection was lost; the build goes on');
    await fleet.recovered();
    const next = await fleet.cli(['deploy', join(REPOSITORY, 'examples/image-server'), '--name', 'later']);
    expect(next.code, next.stderr).toBe(0);
    await expect.poll(deploying.errors, { timeout: 80_000 }).toContain('The control plane that ran this build stopped');
  });
});
