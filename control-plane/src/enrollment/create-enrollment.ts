import { checkAuthority } from '@lambda-fleet/common/certificates/issue-certificate';
import { errorText } from '@lambda-fleet/common/errors';
import type { Secret } from '@lambda-fleet/common/secret';
import { Enrollment, type EnrollmentOptions } from './enrollment.js';

export interface CreateEnrollment extends Omit<EnrollmentOptions, 'authority'> {
  /** PEM. */
  readonly tls: { readonly ca: Buffer };
  readonly caKey: Secret | undefined;
}

/** Undefined without the key of the fleet's authority. @throws Error when there is one that cannot be used */
export function createEnrollment({ tls, caKey, database, lifetimeMs, log }: CreateEnrollment): Enrollment | undefined {
  if (caKey === undefined) return undefined;
  const authority = { certificatePem: tls.ca.toString('utf8'), keyPem: caKey.reveal() };
  try {
    checkAuthority(authority);
  } catch (err) {
    throw new Error(`LAMBDA_TLS_CA_KEY cannot be used with LAMBDA_TLS_CA: ${errorText(err)}`, { cause: err });
  }
  return new Enrollment({ database, authority, lifetimeMs, log });
}
