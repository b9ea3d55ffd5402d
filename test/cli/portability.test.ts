import { mkdtemp, readdir, rm, truncate } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'
import { runCommand } from './run-command.ts'

const home = useDatabase()
const eu = useDatabase()
let folder: string

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'rowhouse-cli-'))
})
afterAll(() => rm(folder, { recursive: true }))

/** Runs a command in this process. */
async function rowhouse(...arguments_: string[]) {
  const { exitCode, stdout, stderr } = await runCommand(arguments_, {
    DATABASE_URL: home.url('owner'),
    ROWHOUSE_PLACEMENTS: `eu=${eu.url('owner')}`,
  })
  return { exitCode, stdout, stderr }
}

test('export writes a file, import makes a tenant of it, and says what it left out', async () => {
  await rowhouse('tenant', 'create', 'acme')
  const file = join(folder, 'acme.tar.gz')
  const exported = await rowhouse('tenant', 'export', 'acme', '--out', file)
  expect(exported.stdout).toMatch(
    /rowhouse\.audit_entries +1\n[\s\S]*Tenant acme was exported to .*acme\.tar\.gz: [\d,]+ bytes\.\nContent hash [0-9a-f]{64}\n$/,
  )
  expect(await readdir(folder)).toEqual(['acme.tar.gz'])
  const imported = await rowhouse('tenant', 'import', file, '--as', 'copy')
  expect(imported.exitCode).toBe(0)
  expect(imported.stdout).toMatch(/Tenant copy was imported\.\nContent hash [0-9a-f]{64}\n$/)
  expect(imported.stderr).toMatch(/audit_entries was left out, 1 rows/)
  expect(JSON.parse((await rowhouse('tenant', 'import', file, '--as', 'copy-2', '--json')).stdout)).toMatchObject({
    tenantId: 'copy-2',
    from: 'acme',
  })
})

test('what can not be is one sentence and the mend, and leaves no file', async () => {
  expect((await rowhouse('tenant', 'export', 'nobody', '--out', join(folder, 'nobody.tar.gz'))).stderr).toMatch(
    /tenant "nobody" does not exist/,
  )
  expect((await rowhouse('tenant', 'export', 'acme')).stderr).toMatch(/needs --out/)
  expect((await rowhouse('tenant', 'import', join(folder, 'none'))).stderr).toMatch(/There is no file/)
  const file = join(folder, 'cut.tar.gz')
  await rowhouse('tenant', 'export', 'acme', '--out', file)
  await truncate(file, 500)
  const cut = await rowhouse('tenant', 'import', file, '--as', 'cut')
  expect(cut).toMatchObject({ exitCode: 1, stderr: expect.stringMatching(/can not be imported/) })
  expect((await readdir(folder)).sort()).toEqual(['acme.tar.gz', 'cut.tar.gz'])
})

test('move brings a tenant to another database and back', needs('parallelBackends'), async () => {
  const moved = await rowhouse('tenant', 'move', 'acme', 'eu')
  expect(moved.stderr).toBe(
    'Closing the tenant.\nCopying its rows.\nSwitching.\nOpening it where it is now.\nErasing what is left behind.\n',
  )
  expect(moved.stdout).toMatch(
    /^Tenant acme moved from home to eu; it was closed for [\d.]+ m?s\.\n\d+ rows were erased at home: receipt 1 /,
  )
  const back = await rowhouse('tenant', 'move', 'acme', 'home', '--json')
  expect(JSON.parse(back.stdout)).toMatchObject({ from: 'eu', to: 'home' })
  expect((await rowhouse('tenant', 'cancel-move', 'acme')).stdout).toBe('Tenant acme is not being moved.\n')
  expect((await rowhouse('tenant', 'move', 'acme', 'us')).stderr).toMatch(/no placement "us"/)
  expect((await rowhouse('tenant', 'move', 'acme', 'eu', '--placements', 'eu')).exitCode).toBe(2)
})
