import { beforeAll, expect, test } from 'vitest'
import { useDatabase } from '../setup/database.ts'
import { runCommand } from './run-command.ts'

const home = useDatabase({ needs: ['parallelBackends'] })
const eu = useDatabase({ needs: ['parallelBackends'] })

/** Runs a command in this process. */
const atHome = (...arguments_: string[]) => runCommand(arguments_, { DATABASE_URL: home.url('owner') })
const everywhere = (...arguments_: string[]) =>
  runCommand(arguments_, { DATABASE_URL: home.url('owner'), ROWHOUSE_PLACEMENTS: `eu=${eu.url('owner')}` })

beforeAll(async () => {
  for (const tenantId of ['stays', 'moves']) await everywhere('tenant', 'create', tenantId)
  expect((await everywhere('tenant', 'move', 'moves', 'eu')).exitCode).toBe(0)
  await everywhere('key', 'issue', 'moves', 'first')
})

test.each([
  [['tenant', 'suspend', 'moves']],
  [['tenant', 'resume', 'moves']],
  [['tenant', 'tier', 'moves', 'enterprise']],
  [['tenant', 'promote', 'moves']],
  [['tenant', 'demote', 'moves']],
  [['tenant', 'erase', 'moves', '--dry-run']],
  [['key', 'list', 'moves']],
  [['key', 'issue', 'moves', 'name']],
  [['audit', 'seal', 'moves']],
  [['audit', 'verify', 'moves']],
  [['audit', 'export', 'moves']],
  [['audit', 'seal']],
  [['audit', 'verify']],
  [['sweep', 'moves']],
  [['sweep']],
  [['usage', '--tenant', 'moves']],
  [['usage']],
])('%j works where the tenant is, and fails clearly where that was not named', async (arguments_) => {
  expect(await atHome(...arguments_)).toMatchObject({
    exitCode: 1,
    stdout: '',
    stderr: expect.stringMatching(
      /(in another database|that were not named: eu \(1\))[\s\S]*--placements "eu=postgres:/,
    ),
  })
  expect(await everywhere(...arguments_)).toMatchObject({ exitCode: 0 })
  expect((await atHome(...arguments_, '--placements', `eu=${eu.url('owner')}`)).exitCode).toBe(0)
})

test('the database where a tenant is can be asked by itself', async () => {
  const there = (...arguments_: string[]) => runCommand(arguments_, { DATABASE_URL: eu.url('owner') })
  expect((await there('sweep')).exitCode).toBe(0)
  await everywhere('tenant', 'create', 'returns')
  await everywhere('tenant', 'move', 'returns', 'eu')
  await everywhere('tenant', 'move', 'returns', 'home')
  expect((await there('sweep')).exitCode).toBe(0)
})

test('receipts name the database', async () => {
  await everywhere('tenant', 'erase', 'moves', '--yes')
  const { stdout } = await everywhere('tenant', 'receipts')
  expect(stdout).toMatch(/^receipt +tenant +database +state$/m)
  expect(stdout).toMatch(/^\d+ +moves +home +intact$/m)
  expect(stdout).toMatch(/^\d+ +moves +eu +intact$/m)
  expect((await everywhere('tenant', 'verify-erasure', 'moves')).stdout).toMatch(/The receipt is intact/)
  expect((await atHome('tenant', 'verify-erasure', 'moves')).stderr).toMatch(/--placements "eu=/)
})
