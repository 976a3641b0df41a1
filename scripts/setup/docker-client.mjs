const PING_DEADLINE_MS = 5_000;

/** The version of the engine at `host`, or undefined when none answers there. */
export async function engineVersion(host) {
  try {
    const docker = await dockerClient(host);
    const { Version } = await docker.version({ abortSignal: AbortSignal.timeout(PING_DEADLINE_MS) });
    return `Docker ${Version}`;
  } catch {
    // Whatever the reason, this is no engine that tests could use; the caller says what it looked for.
    return undefined;
  }
}

/**
 * A dockerode client for a DOCKER_HOST value, which is set for this process and its children: the client reads its other
 * settings (TLS) from the environment too. Imported late, because a first run begins without node_modules.
 */
export async function dockerClient(host) {
  process.env.DOCKER_HOST = host;
  const { default: Docker } = await import('dockerode');
  return new Docker();
}
