import { fileURLToPath } from 'node:url';

/** Absolute path of the one file that a sandbox runs: `node <runtimeEntry>`. Made by `build.mjs`. */
export const runtimeEntry: string = fileURLToPath(new URL('./runtime.cjs', import.meta.url));
