/** Label of containers and networks: which agent's data directory they belong to. Two agents of one engine never share it. */
export const OWNER_LABEL = 'lambda.owner';
/** Container label: the sandbox's id. */
export const SANDBOX_LABEL = 'lambda.sandbox';
