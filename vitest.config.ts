import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { defineConfig } from 'vitest/config'

const source = (path: string) => join(import.meta.dirname, 'src', path)

export default defineConfig({
  resolve: {
    alias: [
      { find: /^rowhouse$/, replacement: source('index.ts') },
      {
        find: /^rowhouse\/(http|express|fastify|graphile-worker|hono|next|pg-boss|ws)$/,
        replacement: source('$1/index.ts'),
      },
      { find: /^rowhouse\/embedded$/, replacement: source('embedded/index.ts') },
      { find: /^rowhouse\/keyv$/, replacement: source('keyv/index.ts') },
      { find: /^rowhouse\/langgraph$/, replacement: source('langgraph/index.ts') },
      { find: /^rowhouse\/unstorage$/, replacement: source('unstorage/index.ts') },
      { find: /^rowhouse\/testing$/, replacement: source('testing/index.ts') },
    ],
  },
  test: {
    include: ['test/**/*.test.ts'],
    exclude: ['test/compat/**', 'test/bench/**'],
    globalSetup: 'test/setup/global-setup.ts',
    reporters: ['default', 'test/setup/reporter.ts'],
    pool: 'forks',
    // Tests mostly wait for the server, so one core feeds two files.
    maxWorkers: Math.max(2, availableParallelism()),
    // No file may count on another one having run before it.
    sequence: { shuffle: { files: true, tests: false } },
    testTimeout: 20_000,
    hookTimeout: 60_000,
    allowOnly: !process.env.CI,
  },
})
