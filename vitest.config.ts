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
    // What is waited for comes late on busy machines, not never: a test that waits ends as soon as it is there.
    testTimeout: 60_000,
    hookTimeout: 120_000,
    expect: { poll: { timeout: 20_000, interval: 20 } },
    allowOnly: !process.env.CI,
  },
})
