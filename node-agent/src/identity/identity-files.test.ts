import { mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Authority, issueAuthority, issueCertificate } from '@lambda-fleet/common/certificates/issue-certificate';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { TlsFiles } from './identity.js';
import { IdentityFiles } from './identity-files.js';

let authority: Authority;
let folder: string;
let files: IdentityFiles;
beforeAll(async () => {
  authority = await issueAuthority();
});
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lf-identity-'));
  files = new IdentityFiles(folder);
});
afterEach(() => rm(folder, { recursive: true, force: true }));

async function issued(of = authority): Promise<TlsFiles> {
  const request = { commonName: 'node-1', usage: 'client', dnsNames: [], addresses: [] } as const;
  const { keyPem, certificatePem } = await issueCertificate(of, request);
  return { ca: Buffer.from(authority.certificatePem), cert: Buffer.from(certificatePem), key: Buffer.from(keyPem) };
}

describe('the files of an identity', () => {
  it('are its owner’s alone, and nothing else is left beside them', async () => {
    await files.saveJoined({ ...(await issued()), tokenId: 'a1' });
    const renewed = await issued();
    await files.saveRenewed(renewed);
    expect(await files.load()).toEqual({ ...renewed, tokenId: 'a1' });
    const names = await readdir(folder);
    expect(names.sort()).toEqual(['ca.crt', 'node.crt', 'node.key', 'token']);
    for (const name of names) expect((await stat(join(folder, name))).mode & 0o777).toBe(0o600);
  });

  it('hold a key that fits, wherever a renewal was interrupted', async () => {
    const old = await issued();
    await files.saveJoined({ ...old, tokenId: 'a1' });
    const renewed = await issued();
    // The new key is there, its certificate is not.
    await writeFile(join(folder, 'node.key.next'), renewed.key);
    expect(await files.load()).toMatchObject(old);
    // Now it is, and the key is not in its place yet.
    await writeFile(join(folder, 'node.crt'), renewed.cert);
    expect(await files.load()).toMatchObject(renewed);
    // And the next renewal goes on from there.
    const next = await issued();
    await files.saveRenewed(next);
    expect(await files.load()).toMatchObject(next);
  });

  it('that are damaged, or of another authority, are none', async () => {
    expect(await files.load()).toBeUndefined();
    await files.saveJoined({ ...(await issued(await issueAuthority())), tokenId: 'a1' });
    expect(await files.load()).toBeUndefined();
    await files.saveJoined({ ...(await issued()), tokenId: 'a1' });
    await writeFile(join(folder, 'node.key'), 'damaged');
    expect(await files.load()).toBeUndefined();
  });
});
