/**
 * The users that sandboxes run as, one each, in the runtime images' own `/etc/passwd`. They lie above those that people have and below
 * those that systemd gives out, and below 65536, which is all that an engine in a user namespace has.
 */
export const SANDBOX_USER_FIRST = 50_000;
export const SANDBOX_USERS = 1_024;
/** `nogroup`: it owns nothing. */
export const SANDBOX_GROUP = 65_534;
