// Stands in for the control plane under `lambda up`: keeps functions in memory, writes a key, ends as the real one does.
import { existsSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';

const functions = new Map();
const keyFile = process.env.LAMBDA_API_KEY_FILE;
process.on('disconnect', () => process.exit(0));
process.on('SIGTERM', () => process.exit(0));
if (!existsSync(keyFile)) writeFileSync(keyFile, 'test-key', { mode: 0o600 });

createServer((request, response) => {
  const name = request.url.split('/')[3];
  request.resume().on('end', () => {
    if (request.method === 'PUT') functions.set(name, describe(name));
    const found = functions.get(name);
    response.writeHead(found === undefined ? 404 : 200, { 'content-type': 'application/json' });
    response.end(JSON.stringify(found ?? { error: { code: 'function_not_found', message: 'No such function.' } }));
  });
}).listen(Number(process.env.LAMBDA_HTTP_PORT), process.env.LAMBDA_HTTP_HOST, () => process.send({ ready: true }));

function describe(name) {
  return {
    name,
    url: `http://${name}.localhost`,
    version: 1,
    runtime: 'nodejs',
    handler: 'index.handler',
    memoryMb: 128,
    timeoutMs: 30_000,
    updatedAt: new Date().toISOString(),
  };
}
