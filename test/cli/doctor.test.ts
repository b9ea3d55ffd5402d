import type pg from 'pg'
import { beforeAll, expect, test } from 'vitest'
import { useDatabase } from '../setup/database.ts'
import { runCommand } from './run-command.ts'

const database = useDatabase()
let owner: pg.Client

/** Runs a command in this process. */
async function run(...arguments_: string[]) {
  const { exitCode, stdout, stderr } = await runCommand(arguments_, { DATABASE_URL: database.url('owner') })
  return { exitCode, stdout, stderr }
}

beforeAll(async () => {
  owner = await database.connect('owner')
  await owner.query(`create table invoices (tenant_id text not null, id integer, note text, primary key (tenant_id, id));
    select rowhouse.protect_table('invoices')`)
})

test('a database in order: doctor finds nothing, prove counts what was tried', async () => {
  expect(await run('doctor', '--ignore', 'outdated_server')).toEqual({
    exitCode: 0,
    stdout: 'Nothing found: every table keeps its tenants apart.\n',
    stderr: '',
  })
  const { exitCode, stdout } = await run('prove', 'public.invoices')
  expect({ exitCode, stdout }).toMatchObject({ exitCode: 0 })
  expect(stdout).toMatch(/^public\.invoices +\d\d +\d+ +0$/m)
  const proof = JSON.parse((await run('prove', '--json')).stdout)
  expect(proof.tables.map(({ table }: { table: string }) => table)).toContain('rowhouse.sessions')
  expect(proof).toMatchObject({ leaks: [] })
})

test('a hole: both name it and fail, and the printed statement mends it', async () => {
  await owner.query('create policy careless on invoices using (true); drop policy rowhouse_isolation on invoices')
  const found = await run('doctor')
  expect(found.exitCode).toBe(1)
  expect(found.stdout).toMatch(/^error {4}public\.invoices: .*rowhouse_isolation/m)
  const gaps = JSON.parse((await run('doctor', '--json')).stdout)
  expect(gaps).toContainEqual(
    expect.objectContaining({ level: 'error', name: 'policy_differs', table: 'public.invoices' }),
  )
  const proven = await run('prove')
  expect(proven.exitCode).toBe(1)
  expect(proven.stdout).toMatch(/^A tenant reached rows of another one\.\n {2}public\.invoices, /)
  expect(JSON.parse((await run('prove', '--json')).stdout).leaks.length).toBeGreaterThan(0)

  await owner.query(gaps.find(({ name }: { name: string }) => name === 'policy_differs').mend)
  await owner.query('drop policy careless on invoices')
  expect((await run('doctor')).exitCode).toBe(0)
  expect((await run('prove')).exitCode).toBe(0)
})

test('a warning alone is no failure, and a table that everybody reads can be named', async () => {
  await owner.query('create table countries (code text primary key); grant select on countries to rowhouse_app')
  const found = await run('doctor')
  expect(found.stdout).toContain('public.countries')
  expect((await run('doctor', '--shared', 'public.countries')).stdout).not.toContain('public.countries')
  const proven = await run('prove')
  expect(proven).toMatchObject({ exitCode: 1, stdout: expect.stringContaining('public.countries, any statement') })
  expect((await run('prove', '--shared', 'public.countries')).exitCode).toBe(0)
  await owner.query('drop table countries')
})

test('in a database that requires seals, commands work with the key and without say what is missing', async () => {
  const key = 'the key of this test, of more than 32 bytes'
  await owner.query("select rowhouse.add_seal_key(convert_to($1, 'UTF8')), rowhouse.require_seals(true)", [key])
  try {
    const environment = { DATABASE_URL: database.url('owner'), ROWHOUSE_SEAL: key }
    await runCommand(['tenant', 'create', 'acme'], environment)
    for (const command of [
      ['prove'],
      ['doctor'],
      ['usage'],
      ['sweep'],
      ['audit', 'export', 'acme'],
      ['audit', 'verify'],
    ]) {
      expect(await runCommand(command, environment), command.join(' ')).toMatchObject({ exitCode: 0, stderr: '' })
    }
    expect((await run('prove')).stderr).toMatch(/seal/)
    expect((await run('usage')).stderr).toMatch(/seal/)
  } finally {
    await owner.query('select rowhouse.require_seals(false)')
  }
})

test('without a database, and with one that does not answer: one sentence and the mend', async () => {
  const { exitCode, stderr } = await run('doctor', '--database-url', 'postgres://nobody@127.0.0.1:1/none')
  expect(exitCode).toBe(1)
  expect(stderr).toMatch(/^error: .+\n {2}.+\n$/)
  expect((await run('prove', 'public.nothing')).exitCode).toBe(1)
})
