/** Hears no signal and never answers. */
for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGUSR1', 'SIGUSR2']) process.on(signal, () => {});
export const handler = () => new Promise((resolve) => setTimeout(resolve, 1e9));
