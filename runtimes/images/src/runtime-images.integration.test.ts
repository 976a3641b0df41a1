import { text } from 'node:stream/consumers';
import Docker from 'dockerode';
import { beforeAll, describe, expect, it } from 'vitest';
import { type BuiltImage, buildImages } from './build-images.js';
import { imageName, RUNTIME_IMAGES } from './image-set.js';

const docker = new Docker();
/** In the base of all of them. */
const PYTHON = '/usr/bin/python3';

/** Prints one JSON object about the sandbox it runs in. */
const NODE_PROBE = `
const fs = require('node:fs');
const refused = (path) => { try { fs.writeFileSync(path, 'x'); return false; } catch { return true; } };
console.log(JSON.stringify({
  version: process.versions.node,
  uid: process.getuid(), gid: process.getgid(), cwd: process.cwd(), home: process.env.HOME,
  taskEntries: fs.readdirSync('/var/task'), channelEntries: fs.readdirSync('/run/lambda'),
  rootRefused: refused('/x'), taskRefused: refused('/var/task/x'), runtimeRefused: refused('/var/runtime/x'),
  interfaces: Object.keys(require('node:os').networkInterfaces()),
}));`;
const PYTHON_PROBE = `
import json, os, platform, socket
def refused(path):
    try:
        open(path, 'w').close()
        return False
    except OSError:
        return True
print(json.dumps({
  'version': platform.python_version(),
  'uid': os.getuid(), 'gid': os.getgid(), 'cwd': os.getcwd(), 'home': os.environ['HOME'],
  'taskEntries': os.listdir('/var/task'), 'channelEntries': os.listdir('/run/lambda'),
  'rootRefused': refused('/x'), 'taskRefused': refused('/var/task/x'), 'runtimeRefused': refused('/var/runtime/x'),
  'interfaces': [name for _, name in socket.if_nameindex()],
}))`;

describe('the runtime images', () => {
  let images: readonly BuiltImage[];
  beforeAll(async () => {
    images = await buildImages({ docker, onProgress: () => {} });
  }, 600_000);

  it('are not built again when nothing that goes into them changed', async () => {
    const again = await buildImages({ docker, onProgress: () => {} });
    expect(again.map(({ id, built }) => ({ id, built }))).toEqual(images.map(({ id }) => ({ id, built: false })));
  });

  it.each(RUNTIME_IMAGES)('$runtime: its aliases name the same image', async ({ runtime, aliases }) => {
    const id = images.find((image) => image.runtime === runtime)?.id;
    for (const alias of aliases) {
      const { repo, tag } = imageName(alias);
      expect((await docker.getImage(`${repo}:${tag}`).inspect()).Id).toBe(id);
    }
  });

  it.each(RUNTIME_IMAGES)('$runtime: runs unprivileged, read-only and without a network', async (image) => {
    const { repo, tag } = imageName(image.runtime);
    const probe =
      image.node === undefined ? [PYTHON, '-I', '-c', PYTHON_PROBE] : [image.entry[0] ?? '', '-e', NODE_PROBE];
    const seen = await printedBy(`${repo}:${tag}`, probe);
    expect(seen).toMatchObject({
      version: image.node === undefined ? expect.stringMatching(/^3\.11\./) : image.node.version,
      uid: 65534,
      gid: 65534,
      cwd: '/var/task',
      home: '/tmp',
      taskEntries: [],
      channelEntries: [],
      rootRefused: true,
      taskRefused: true,
      runtimeRefused: true,
    });
    expect(seen).toHaveProperty('interfaces', image.node === undefined ? ['lo'] : expect.not.arrayContaining(['eth0']));
  });

  it.each(RUNTIME_IMAGES)('$runtime: the label says how to start the program that is in it', async (image) => {
    const { repo, tag } = imageName(image.runtime);
    const { Config } = await docker.getImage(`${repo}:${tag}`).inspect();
    const entry: unknown = JSON.parse(Config.Labels['lambda.entry'] ?? 'null');
    expect(entry).toEqual(image.entry);
    const right = image.entry[0] === image.programInside ? 'X_OK' : 'R_OK';
    const check = `const fs = require('node:fs'); fs.accessSync('${image.programInside}', fs.constants.${right}); console.log('true');`;
    const checkPython = `import os; print('true' if os.access('${image.programInside}', os.${right}) else 'false')`;
    const probe = image.node === undefined ? [PYTHON, '-I', '-c', checkPython] : [image.entry[0] ?? '', '-e', check];
    expect(await printedBy(`${repo}:${tag}`, probe)).toBe(true);
  });

  it('hold no program that gives its caller another user', async () => {
    const find = "find / -xdev -type f -perm /6000 2> /dev/null | wc -l | tr -d ' '";
    expect(await printedBy('lambda-fleet/runtime-nodejs:current', ['/bin/sh', '-c', find])).toBe(0);
  });
});

/** What a command prints in a container of the image, parsed as JSON. */
async function printedBy(image: string, command: readonly string[]): Promise<unknown> {
  const container = await docker.createContainer({
    Image: image,
    Entrypoint: [],
    Cmd: [...command],
    NetworkDisabled: true,
    // A terminal, because then the engine sends the output as it is and without frames.
    Tty: true,
    HostConfig: {
      ReadonlyRootfs: true,
      CapDrop: ['ALL'],
      SecurityOpt: ['no-new-privileges'],
      Memory: 128 * 1024 * 1024,
    },
  });
  try {
    await container.start();
    return JSON.parse(await text(await container.logs({ stdout: true, stderr: true, follow: true })));
  } finally {
    await container.remove({ force: true });
  }
}
