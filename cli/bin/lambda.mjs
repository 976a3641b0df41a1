#!/usr/bin/env node
// npm links a workspace's bin only when its file exists at install time, which `dist` does not; hence this file.
import { existsSync } from 'node:fs';

const main = new URL('../dist/main.js', import.meta.url);
if (existsSync(main)) {
  const { run } = await import(main.href);
  await run(process.argv.slice(2));
} else {
  process.stderr.write('error: the lambda command is not built yet. Build it with: npm run build\n');
  process.exitCode = 1;
}
