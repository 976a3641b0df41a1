// A child that ignores the request to end.
process.on('disconnect', () => process.exit(0));
process.on('SIGTERM', () => {});
setInterval(() => {}, 60_000);
process.send({ ready: true });
