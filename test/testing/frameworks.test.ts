// Nothing of rowhouse/testing belongs to a framework: here node:test runs it, and reports its failures as its own.
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { beforeAll, expect, test } from 'vitest'
import { protect, useAppTables } from '../isolation/support/app-tables.ts'
import { useClients } from '../isolation/support/clients.ts'
import { useDatabase } from '../setup/database.ts'

const database = useDatabase()
useAppTables(database)
const clients = useClients(database, 'owner')

let program: string

beforeAll(() => {
  const testing = new URL('../../src/testing/index.ts', import.meta.url).href
  program = `
    import assert from 'node:assert/strict'
    import { test } from 'node:test'
    import { findIsolationGaps, proveIsolation } from '${testing}'
    const connectionString = process.env.DATABASE_URL
    test('no gaps', async () => assert.deepEqual(await findIsolationGaps(connectionString), []))
    test('no leaks', async () => assert.ok((await proveIsolation(connectionString)).attempts > 100))`
})

/** What node:test printed, and whether it was content. */
async function runWithNodeTest(): Promise<{ passed: boolean; output: string }> {
  const run = promisify(execFile)(process.execPath, ['--input-type=module', '--eval', program], {
    env: { ...process.env, DATABASE_URL: database.url('owner'), NODE_OPTIONS: '' },
  })
  return run.then(
    ({ stdout }) => ({ passed: true, output: stdout }),
    ({ stdout }) => ({ passed: false, output: stdout }),
  )
}

test('node:test passes on a database without gaps, and fails on one with a leak', async () => {
  expect(await runWithNodeTest()).toMatchObject({ passed: true })
  await clients.owner.query('alter table invoices disable row level security')
  try {
    const { passed, output } = await runWithNodeTest()
    expect(passed).toBe(false)
    expect(output).toContain('row_security_off')
    expect(output).toContain('A tenant reached rows of another one.')
  } finally {
    await protect(clients.owner, 'invoices')
  }
})
