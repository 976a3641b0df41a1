import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { BuildOutcome, LogStream } from '@lambda-fleet/proto';
import { strToU8, zipSync } from 'fflate';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { BuilderUnderTest, type Built, type Files, LayersInMemory } from '../../test-support/builder-under-test.js';

const BASE = 'FROM lambda-fleet/base:bookworm\n';
const dockerfile = (...lines: string[]): Files => ({ Dockerfile: BASE + lines.join('\n') });

describe('an image builder', () => {
  let under: BuilderUnderTest;
  let imagesBefore: readonly string[];
  beforeAll(async () => {
    under = await BuilderUnderTest.open();
    imagesBefore = await under.engine.imageIds();
  });
  afterAll(() => under.close());

  const failure = ({ end }: Built) => {
    expect(end.outcome).toBe(BuildOutcome.FAILED);
    return end.detail;
  };
  /** Nothing but the cache of the last good build. */
  const leftovers = async () => {
    const containers: string[] = [];
    for (const id of await under.engine.containerIds()) {
      const parent = (await under.engine.inspectContainer(id))?.HostConfig.CgroupParent ?? '';
      if (parent.includes('build-under-test')) containers.push(id);
    }
    return { containers, files: await readdir(join(under.directory, 'work')) };
  };
  const NOTHING = { containers: [], files: [] };

  test('makes an image, tells how its program starts, and stores its layers', async () => {
    const built = await under.build({
      Dockerfile: `${BASE}COPY app /srv/app\nRUN echo made > /srv/made && echo loud >&2\nENV A=b\nEXPOSE 8080/tcp 53/udp\nWORKDIR /srv\nENTRYPOINT ["/srv/app"]\nCMD ["serve"]\n`,
      app: 'the app',
    });
    expect(built.end).toMatchObject({
      outcome: BuildOutcome.SUCCEEDED,
      image: { entrypoint: ['/srv/app'], command: ['serve'], workingDirectory: '/srv', exposedPorts: [8080] },
    });
    expect(built.end.image?.environment).toContain('A=b');
    expect(built.end.image?.architecture).toBe(process.arch);
    const digests = built.end.image?.layers.map(({ sha256 }) => sha256) ?? [];
    expect(digests.length).toBeGreaterThanOrEqual(3);
    expect([...under.layers.sent].sort()).toEqual([...digests].sort());
    for (const { sha256, bytes } of built.end.image?.layers ?? []) {
      expect(gunzipSync(under.layers.layers.get(sha256) ?? '')).toHaveLength(bytes);
    }
    expect(built.text).toContain('COPY app /srv/app');
    expect(built.lines.find(({ stream }) => stream === LogStream.STDERR)?.text).toBe('loud');
    expect(built.platform).toContain('layers, 0 of them stored already');
    expect(await leftovers()).toEqual(NOTHING);
  });

  test('sends only the layers that are new, and uses what it built before', async () => {
    const files = { Dockerfile: `${BASE}RUN echo slow > /slow\nCOPY app /app\nCMD ["/app"]\n` };
    await under.build({ ...files, app: 'one' });
    const sent = under.layers.sent.length;
    const second = await under.build({ ...files, app: 'two' });
    expect(under.layers.sent.length).toBe(sent + 1);
    expect(second.text).toContain('Using cache');
    expect(second.end.image?.layers).toHaveLength(3);
    const third = await under.build({ ...files, app: 'two' });
    expect(under.layers.sent.length).toBe(sent + 1);
    expect(third.end.image).toEqual(second.end.image);
  });

  test('keeps every stage of the last build, and of no other', async () => {
    const stages = (text: string) => ({
      Dockerfile: `${BASE}RUN echo ${text} > /made\n\nFROM scratch\nCOPY --from=0 /made /made\nCMD ["/made"]\n`,
    });
    await under.build(stages('one'));
    const count = (await under.engine.imageIds()).length;
    expect((await under.build(stages('one'))).text.match(/Using cache/g)?.length).toBeGreaterThanOrEqual(2);
    await under.build(stages('two'));
    expect((await under.engine.imageIds()).length).toBe(count);
  });

  test('takes a zip as a context, too', async () => {
    const sha256 = under.addArchive(
      Buffer.from(zipSync({ Dockerfile: strToU8('FROM scratch\nCOPY a /a\nCMD ["/a"]\n'), a: strToU8('x') })),
    );
    expect((await under.start(sha256).done).end.outcome).toBe(BuildOutcome.SUCCEEDED);
  });

  test.each<[string, Files, RegExp]>([
    ['a step that fails', dockerfile('RUN echo before && exit 3'), /non-zero code: 3/],
    ['an instruction that does not exist', { Dockerfile: 'FRMO scratch' }, /unknown instruction: FRMO/],
    ['a file that is not in the context', dockerfile('COPY missing /x'), /missing/],
    ['nothing in it', { Dockerfile: 'FROM scratch\nCMD ["/x"]' }, /empty|No image was generated/],
  ])('says what is wrong with a Dockerfile with %s, and leaves nothing', async (_, files, reason) => {
    const before = (await under.engine.imageIds()).length;
    expect(failure(await under.build(files))).toMatch(reason);
    expect((await under.engine.imageIds()).length).toBe(before);
    expect(await leftovers()).toEqual(NOTHING);
  });

  test('keeps a step to its memory', async () => {
    const built = await under.build(dockerfile('RUN python3 -c "x = bytearray(1 << 30)"'));
    expect(failure(built)).toMatch(/137 \(it was killed; a step may use 256 MB of memory\)/);
  });

  test('bounds what a flood of output costs, and keeps its end', async () => {
    const built = await under.build(dockerfile('RUN seq 1 200000 && echo the last words && exit 1'));
    expect(failure(built)).toContain('non-zero code: 1');
    expect(built.lines.length).toBeLessThan(10_300);
    expect(built.lines.reduce((sum, { text }) => sum + text.length, 0)).toBeLessThan(1.2 * 1024 * 1024);
    expect(built.text).toContain('the last words');
    expect(built.platform).toMatch(/\[\.\.\. \d+ lines left out\]/);
  });

  test('cuts a line that never ends', async () => {
    const built = await under.build(dockerfile('RUN head -c 300000 /dev/zero | tr "\\0" x && exit 1'));
    expect(Math.max(...built.lines.map(({ text }) => text.length))).toBe(8 * 1024);
  });

  test('ends a build that is cancelled, at once and without a trace', async () => {
    const { id, lines, done } = under.start(await under.context(dockerfile('RUN echo begun && sleep 600')));
    await expect.poll(() => lines.some(({ text }) => text === 'begun'), { timeout: 20_000 }).toBe(true);
    under.builder.cancel(id);
    expect((await done).end.outcome).toBe(BuildOutcome.CANCELLED);
    expect(await leftovers()).toEqual(NOTHING);
  });

  test('ends a flood that is cancelled', async () => {
    const { id, lines, done } = under.start(await under.context(dockerfile('RUN yes')));
    await expect.poll(() => lines.some(({ text }) => text === 'y'), { timeout: 20_000 }).toBe(true);
    under.builder.cancel(id);
    expect((await done).end.outcome).toBe(BuildOutcome.CANCELLED);
    expect(await leftovers()).toEqual(NOTHING);
  });

  test('builds one at a time, and is free again after each', async () => {
    const first = under.start(await under.context(dockerfile('RUN sleep 600')));
    const second = await under.start(await under.context(dockerfile('RUN true'))).done;
    expect(second.end).toMatchObject({ outcome: BuildOutcome.REFUSED, detail: 'it builds another image' });
    under.builder.abandon(first.id);
    expect((await first.done).end.outcome).toBe(BuildOutcome.NODE_FAILED);
    expect((await under.build(dockerfile('CMD ["x"]'))).end.outcome).toBe(BuildOutcome.SUCCEEDED);
  });

  test('refuses an image that is too large, before it sends anything', async () => {
    const sent = under.layers.sent.length;
    const built = await under.build(dockerfile('RUN head -c 3000000 /dev/urandom > /big'), { imageBytesMax: 1 << 20 });
    expect(failure(built)).toMatch(/the image has \d+ MB and may have 1 MB/);
    expect(under.layers.sent.length).toBe(sent);
    expect(await leftovers()).toEqual(NOTHING);
  });

  test('says that it is not the Dockerfile when the layers cannot be stored', async () => {
    under.layers.failure = new Error('the store is away');
    const built = await under.build(dockerfile(`RUN echo ${Date.now()} > /new`));
    under.layers.failure = undefined;
    expect(built.end).toMatchObject({ outcome: BuildOutcome.NODE_FAILED, detail: 'the store is away' });
    expect(await leftovers()).toEqual(NOTHING);
  });

  test.each([
    ['no archive', Buffer.from('hello')],
    ['an entry that leaves its folder', Buffer.from(zipSync({ '../Dockerfile': strToU8(BASE) }))],
  ])('refuses a context with %s', async (_, archive) => {
    expect(failure(await under.start(under.addArchive(archive)).done)).toContain('archive');
    expect(await leftovers()).toEqual(NOTHING);
  });

  test('removes containers that an agent left which was killed, and knows its cache again', async () => {
    const files = dockerfile('RUN echo kept > /kept', 'CMD ["x"]');
    await under.build(files);
    const images = (await under.engine.imageIds()).length;
    const steps = dockerfile(`RUN echo ${Date.now()} > /step`, 'RUN echo up && sleep 600');
    const running = under.start(await under.context(steps));
    await expect.poll(() => running.lines.some(({ text }) => text === 'up'), { timeout: 20_000 }).toBe(true);
    // What a killed agent leaves is what stands at this moment.
    const next = await BuilderUnderTest.open({}, new LayersInMemory(), under.directory);
    expect(await leftovers()).toEqual(NOTHING);
    await running.done;
    expect((await under.engine.imageIds()).length).toBe(images);
    expect((await next.build(files)).text).toContain('Using cache');
  });

  test('leaves the engine as it was, when its cache is gone', async () => {
    await under.close();
    const now = await under.engine.imageIds();
    expect(now.filter((id) => !imagesBefore.includes(id))).toEqual([]);
    under = await BuilderUnderTest.open();
  });
});

test('a build that takes too long, or too much disk, is ended', async () => {
  const slow = await BuilderUnderTest.open({ timeoutMs: 3_000 });
  const timedOut = await slow.build(dockerfile('RUN sleep 600'));
  expect(timedOut.end).toMatchObject({
    outcome: BuildOutcome.FAILED,
    detail: expect.stringContaining('longer than 3 s'),
  });
  await slow.close();
  const small = await BuilderUnderTest.open({ diskBytes: 50 << 20 });
  const full = await small.build(dockerfile('RUN head -c 300000000 /dev/zero > /big && sleep 60'));
  expect(full.end).toMatchObject({ outcome: BuildOutcome.FAILED, detail: expect.stringContaining('50 MB of disk') });
  await small.close();
});

test('a step is kept to its processes', async () => {
  const roomy = await BuilderUnderTest.open({ memoryBytes: 2 ** 31 });
  // The limit comes a moment after the container, so the bomb waits for it.
  const bomb = `import os, sys, time
time.sleep(1)
made = 0
try:
    while made < 4000:
        if os.fork() == 0:
            time.sleep(30)
            os._exit(0)
        made += 1
except OSError:
    print('stopped at', made)
    sys.exit(9)
`;
  const built = await roomy.build({ Dockerfile: `${BASE}COPY bomb.py /\nRUN python3 /bomb.py\n`, 'bomb.py': bomb });
  expect(built.end.detail).toContain('non-zero code: 9');
  expect(Number(/stopped at (\d+)/.exec(built.text)?.[1])).toBeLessThan(1_024);
  await roomy.close();
});
