import { defineConfig } from 'vitest/config';

/**
 * `unit` needs nothing but Node; `contract` runs one suite against every
 * implementation of a port and `integration` uses real servers: both need the
 * engine and the images that `npm test` sets up; `e2e` starts whole systems.
 */
export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: 'unit',
          include: [
            '{common,control-plane,node-agent,cli,proto,bench}/**/*.test.ts',
            'runtimes/**/*.test.ts',
            'scripts/**/*.test.ts',
          ],
          exclude: ['**/node_modules/**', '**/dist/**', '**/*.{contract,integration}.test.ts'],
          // Machines are shared: what takes a second may take ten.
          testTimeout: 30_000,
          hookTimeout: 60_000,
        },
      },
      {
        test: {
          name: 'integration',
          include: ['**/*.{contract,integration}.test.ts'],
          exclude: ['**/node_modules/**', '**/dist/**'],
          testTimeout: 60_000,
          hookTimeout: 120_000,
        },
      },
      {
        test: {
          // Whole systems that are broken on purpose; those that take long are nowhere else.
          name: 'faults',
          include: ['e2e/src/faults/*.{test,long}.ts'],
          testTimeout: 900_000,
          hookTimeout: 300_000,
          fileParallelism: false,
        },
      },
      {
        test: {
          name: 'e2e',
          include: ['e2e/src/**/*.test.ts'],
          exclude: ['**/node_modules/**', '**/dist/**', '**/*.{contract,integration}.test.ts'],
          testTimeout: 180_000,
          hookTimeout: 300_000,
          fileParallelism: false,
        },
      },
    ],
  },
});
