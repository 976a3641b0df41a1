import { createPrivateKey, X509Certificate } from 'node:crypto';
import { checkServerIdentity } from 'node:tls';
import { type ChannelCredentials, credentials, type VerifyOptions } from '@grpc/grpc-js';
import {
  certificateTimes,
  type NodeCertificate,
  SERVER_AUTH,
} from '@lambda-fleet/common/certificates/node-certificate';

/** All PEM. */
export interface TlsFiles {
  readonly ca: Buffer;
  readonly cert: Buffer;
  readonly key: Buffer;
}

/** Which node this is, and how it proves it. Its certificate may be replaced by a newer one of the same node. */
export class Identity {
  readonly nodeId: string;
  #files: TlsFiles;
  #certificate: NodeCertificate;
  #credentials: ChannelCredentials;

  /** @throws Error when the certificate names no node, or does not belong to the key */
  constructor(files: TlsFiles) {
    this.#files = files;
    this.#certificate = nodeCertificateOf(files);
    this.nodeId = this.#certificate.nodeId;
    this.#credentials = credentialsOf(files);
  }

  get files(): TlsFiles {
    return this.#files;
  }

  get certificate(): NodeCertificate {
    return this.#certificate;
  }

  /** For the next connection. What is connected stays so. */
  get credentials(): ChannelCredentials {
    return this.#credentials;
  }

  /** @throws Error when the certificate is not a sound one of this node */
  replace(files: TlsFiles): void {
    this.#certificate = checkIssued(files, this.nodeId);
    this.#files = files;
    this.#credentials = credentialsOf(files);
  }
}

/**
 * Checks a certificate against its key and its authority.
 *
 * @param nodeId the node that it must be of; any when undefined
 * @throws Error when it is a certificate of another node, of another authority or for another key
 */
export function checkIssued(files: TlsFiles, nodeId?: string): NodeCertificate {
  const issued = nodeCertificateOf(files);
  if (nodeId !== undefined && issued.nodeId !== nodeId)
    throw new Error(`the certificate is one of ${issued.nodeId}, not of ${nodeId}`);
  if (!new X509Certificate(files.cert).verify(new X509Certificate(files.ca).publicKey)) {
    throw new Error("the certificate is not signed by the fleet's authority");
  }
  return issued;
}

function nodeCertificateOf({ cert, key }: TlsFiles): NodeCertificate {
  const certificate = new X509Certificate(cert);
  const name = /^CN=(.+)$/m.exec(certificate.subject)?.[1];
  if (name === undefined) throw new Error("The agent's certificate has no common name, which is the node's id.");
  if (!certificate.checkPrivateKey(createPrivateKey(key))) {
    throw new Error("The agent's private key is not that of its certificate.");
  }
  return { nodeId: name, ...certificateTimes(certificate) };
}

/**
 * Only a certificate for servers may serve: OpenSSL refuses one for clients, and one that names no usage is refused here. A
 * node's certificate, which the same authority signed, must never pass for a control plane.
 */
export const VERIFY_SERVER: VerifyOptions = {
  checkServerIdentity: (host, { raw }) => {
    const certificate = new X509Certificate(raw);
    if (certificate.keyUsage?.includes(SERVER_AUTH) !== true) {
      return new Error('the certificate of the control plane is not one for servers');
    }
    return checkServerIdentity(host, certificate.toLegacyObject());
  },
};

function credentialsOf({ ca, cert, key }: TlsFiles): ChannelCredentials {
  return credentials.createSsl(ca, key, cert, VERIFY_SERVER);
}
