/** What the harness promises about tests that are skipped, fail or leak, seen from outside. */
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { useDatabase } from './database.ts'
import { needs } from './needs.ts'

const database = useDatabase({ migrated: false })
const root = join(import.meta.dirname, '../..')

function runFixture(
  name: string,
  env: Record<string, string>,
): Promise<{ code: number; lines: string[]; errors: string }> {
  const vitest = join(root, 'node_modules/vitest/vitest.mjs')
  const args = [vitest, 'run', '--config', 'test/setup/fixtures/vitest.config.ts', name]
  return new Promise((resolve) => {
    execFile(
      process.execPath,
      args,
      { cwd: root, env: { ...process.env, NO_COLOR: '1', ...env } },
      (error, output, errors) => {
        resolve({ code: error === null ? 0 : Number(error.code), lines: output.trimEnd().split('\n'), errors })
      },
    )
  })
}

test('a file that the engine cannot run is skipped with the reason, and none of its hooks runs', async () => {
  const { code, lines } = await runFixture('skipped', { ROWHOUSE_TEST_ENGINE: 'pglite' })
  expect(lines.at(-1)).toBe('0 passed, 0 failed, 3 skipped')
  const reasons = lines.filter((line) => line.startsWith('Skipped '))
  expect(reasons.join('\n')).toMatch(/^Skipped 2: needs postgres 99 or newer, which this engine has not: PGlite/m)
  expect(reasons.join('\n')).toMatch(/^Skipped 1: needs postgres 98 or newer/m)
  expect(code).toBe(0)
})

test('failures and names that occur twice are counted, and make the run fail', async () => {
  const { code, lines } = await runFixture('broken', { ROWHOUSE_TEST_ENGINE: 'pglite' })
  expect(lines.at(-1)).toBe('2 passed, 2 failed, 0 skipped')
  expect(lines).toContain('The name of a test occurs twice: test/setup/fixtures/broken.fixture.ts: twice')
  expect(code).toBe(1)
})

test('a run in which nothing ran is a failure', async () => {
  const { code, lines } = await runFixture('no-such-file', { ROWHOUSE_TEST_ENGINE: 'pglite' })
  expect(lines).toContain('0 passed, 1 failed, 0 skipped')
  expect(code).toBe(1)
})

test('a file that leaves connections open fails and says which', needs('superuser', 'parallelBackends'), async () => {
  const { code, lines, errors } = await runFixture('leaking', {
    ROWHOUSE_TEST_ENGINE: 'url',
    TEST_DATABASE_URL: database.url('superuser'),
  })
  expect(lines.at(-1)).toBe('2 passed, 1 failed, 0 skipped')
  expect(errors).toMatch(/left connections open: 1 client\(s\) of a pool were not released; forgotten as \w+, idle/)
  expect(code).toBe(1)
})
