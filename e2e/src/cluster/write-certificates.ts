import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { issueAuthority, issueCertificate } from '@lambda-fleet/common/certificates/issue-certificate';

/** Environment of a control plane that is its own authority. */
export type TlsEnvironment = Readonly<
  Record<'LAMBDA_TLS_CA' | 'LAMBDA_TLS_CA_KEY' | 'LAMBDA_TLS_CERT' | 'LAMBDA_TLS_KEY', string>
>;

/** Makes an authority, and one certificate for all control planes of this machine, wherever it is seen from. */
export async function writeCertificates(folder: string, hosts: readonly string[]): Promise<TlsEnvironment> {
  const authority = await issueAuthority();
  const server = await issueCertificate(authority, {
    commonName: 'control-plane',
    usage: 'server',
    dnsNames: ['localhost'],
    addresses: ['127.0.0.1', '::1', ...hosts],
  });
  const write = async (name: string, text: string): Promise<string> => {
    const path = join(folder, name);
    await writeFile(path, text, { mode: 0o600 });
    return path;
  };
  return {
    LAMBDA_TLS_CA: await write('ca.crt', authority.certificatePem),
    LAMBDA_TLS_CA_KEY: await write('ca.key', authority.keyPem),
    LAMBDA_TLS_CERT: await write('control-plane.crt', server.certificatePem),
    LAMBDA_TLS_KEY: await write('control-plane.key', server.keyPem),
  };
}
