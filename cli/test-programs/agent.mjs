// Stands in for an agent under `lambda up`.
process.on('disconnect', () => process.exit(0));
process.on('SIGTERM', () => process.exit(0));
setInterval(() => {}, 60_000);
process.send({ ready: true });
