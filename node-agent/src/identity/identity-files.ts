import { randomBytes } from 'node:crypto';
import { mkdir, open, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { checkIssued, type TlsFiles } from './identity.js';

/** What a machine has joined with. */
export interface StoredIdentity extends TlsFiles {
  /** The public id of the join token that it was got with. */
  readonly tokenId: string;
}

/**
 * `node.key`, `node.crt`, `ca.crt` and `token` of a data directory, for their owner only.
 *
 * A new key lies in `node.key.next` before its certificate is in place and takes the key's place after that: whenever the
 * machine stops, there is a key that fits the certificate.
 */
export class IdentityFiles {
  constructor(private readonly folder: string) {}

  /** Undefined when there is none, or none that is whole. */
  async load(): Promise<StoredIdentity | undefined> {
    const [ca, cert, key, nextKey, token] = await Promise.all(
      ['ca.crt', 'node.crt', 'node.key', 'node.key.next', 'token'].map((name) => this.#read(name)),
    );
    if (ca === undefined || cert === undefined) return undefined;
    for (const candidate of [key, nextKey]) {
      if (candidate === undefined) continue;
      const files = { ca, cert, key: candidate };
      if (isWhole(files)) return { ...files, tokenId: token?.toString('utf8').trim() ?? '' };
    }
    return undefined;
  }

  async saveJoined({ tokenId, ...files }: StoredIdentity): Promise<void> {
    await mkdir(this.folder, { recursive: true, mode: 0o700 });
    await this.#write('token', Buffer.from(`${tokenId}\n`));
    await this.#write('ca.crt', files.ca);
    await this.saveRenewed(files);
  }

  async saveRenewed({ cert, key }: TlsFiles): Promise<void> {
    // What a stop left there may be the only key that fits.
    const present = await this.load();
    if (present !== undefined) await this.#write('node.key', present.key);
    await this.#write('node.key.next', key);
    await this.#write('node.crt', cert);
    await rename(join(this.folder, 'node.key.next'), join(this.folder, 'node.key'));
  }

  async #read(name: string): Promise<Buffer | undefined> {
    try {
      return await readFile(join(this.folder, name));
    } catch (err) {
      if ((err as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw err;
    }
  }

  /** Whole or not at all, also after a power cut. */
  async #write(name: string, bytes: Buffer): Promise<void> {
    const unfinished = join(this.folder, `${name}.${randomBytes(4).toString('hex')}`);
    try {
      const file = await open(unfinished, 'wx', 0o600);
      try {
        await file.writeFile(bytes);
        await file.sync();
      } finally {
        await file.close();
      }
      await rename(unfinished, join(this.folder, name));
    } catch (err) {
      await rm(unfinished, { force: true });
      throw err;
    }
  }
}

function isWhole(files: TlsFiles): boolean {
  try {
    checkIssued(files);
    return true;
  } catch {
    // A part of it is damaged or of another one: as good as absent.
    return false;
  }
}
