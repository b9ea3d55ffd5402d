import { defineConfig } from 'vitest/config'

/** A project of its own: suites that others wrote, with the version of vitest that they were written for. */
export default defineConfig({
  test: {
    include: ['*.test.ts'],
    globalSetup: 'global-setup.ts',
    testTimeout: 20_000,
    hookTimeout: 60_000,
    fileParallelism: false,
    // The validation of LangGraph expects the functions of vitest to be global.
    globals: true,
  },
})
