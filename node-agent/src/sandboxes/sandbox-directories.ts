import { chmod, mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';

export interface SandboxDirectories {
  readonly taskDir: string;
  readonly cacheDir: string;
  readonly channelDir: string;
}

/** Makes and removes the host directories of each sandbox. */
export class SandboxPlaces {
  constructor(
    /** On the artifact cache's filesystem. */
    private readonly taskRoot: string,
    private readonly socketRoot: string,
  ) {}

  /** Removes what an earlier agent left. Call it when none of its sandboxes is left. */
  async clear(): Promise<void> {
    for (const root of [this.taskRoot, this.socketRoot]) {
      await mkdir(root, { recursive: true, mode: 0o711 });
      // Runtimes pass through, and cannot list their neighbours.
      await chmod(root, 0o711);
      await Promise.all((await readdir(root)).map((name) => rm(join(root, name), { recursive: true, force: true })));
    }
  }

  async make(id: string): Promise<SandboxDirectories> {
    const place = join(this.taskRoot, id);
    await makeDirectory(place, 0o711);
    const taskDir = join(place, 'task');
    const cacheDir = join(place, 'cache');
    const channelDir = join(this.socketRoot, id);
    await Promise.all([
      makeDirectory(taskDir, 0o755),
      makeDirectory(cacheDir, 0o755),
      makeDirectory(channelDir, 0o711),
    ]);
    return { taskDir, cacheDir, channelDir };
  }

  async remove(id: string): Promise<void> {
    await Promise.all(
      [this.taskRoot, this.socketRoot].map((root) => rm(join(root, id), { recursive: true, force: true })),
    );
  }
}

async function makeDirectory(path: string, mode: number): Promise<void> {
  await mkdir(path);
  // mkdir's mode is cut by the umask.
  await chmod(path, mode);
}
