/** `auto` is a socket where the engine's containers run under this machine's kernel, else `attach`. */
export const CHANNEL_TRANSPORTS = ['auto', 'socket', 'attach'] as const;

/**
 * How frames reach a container: through a unix socket that is mounted into it, or through its standard input and output.
 * A socket is faster (a warm invocation takes 0.15 ms less), and works only under one kernel.
 */
export type ChannelTransport = (typeof CHANNEL_TRANSPORTS)[number];

/**
 * Whether containers run under this machine's own kernel, by what the engine calls its operating system. Docker Desktop
 * runs them in a virtual machine, on Linux too; other systems have no other way. There, a socket of this machine cannot be
 * connected to through a mount, and the process table and cgroups of this machine know nothing of containers.
 */
export function sharesKernel(operatingSystem: string, platform: NodeJS.Platform): boolean {
  return platform === 'linux' && !operatingSystem.includes('Docker Desktop');
}
