import { afterEach, beforeEach, expect, test } from 'vitest'
import { migrate } from '../../src/migrate/migrate.ts'
import { loadSqlFiles } from '../../src/migrate/sql-files.ts'
import { catalogSnapshot, createTestDatabase, type TestDatabase, useServer } from './support.ts'

useServer()

let database: TestDatabase

beforeEach(async () => {
  database = await createTestDatabase()
})
afterEach(() => database.drop())

test('a dry run names every file and step and writes nothing', async () => {
  const before = await catalogSnapshot(database)
  const dry = await migrate({ connectionString: database.url }, { dryRun: true })
  expect(dry.dryRun).toBe(true)
  expect(dry.preparations).toContain('create the schema rowhouse')
  const files = await loadSqlFiles()
  expect(dry.applied.map(({ file }) => file)).toEqual(
    [files.bootstrap, ...files.migrations, ...files.functions].map(({ file }) => file),
  )
  expect(dry.applied[1]?.sql).toContain('create table rowhouse.tenants')
  expect(await catalogSnapshot(database)).toEqual(before)

  const real = await migrate({ connectionString: database.url })
  expect(real.applied.map(({ file }) => file)).toEqual(dry.applied.map(({ file }) => file))
  expect(await catalogSnapshot(database)).not.toEqual(before) // control
})

test('a dry run of an installed database names what changed only', async () => {
  await migrate({ connectionString: database.url })
  expect((await migrate({ connectionString: database.url }, { dryRun: true })).applied).toEqual([])
  await database.admin("update rowhouse.applied_functions set checksum = 'x' where file = 'functions/context.sql'")
  const before = await catalogSnapshot(database)
  const dry = await migrate({ connectionString: database.url }, { dryRun: true })
  expect(new Set(dry.applied.map(({ kind }) => kind))).toEqual(new Set(['functions']))
  expect(await catalogSnapshot(database)).toEqual(before)
})

test('a dry run works while another run holds the lock', async () => {
  const holder = await database.connect()
  await holder.query('begin; select pg_advisory_xact_lock(1919907688, 1)')
  expect((await migrate({ connectionString: database.url }, { dryRun: true })).applied.length).toBeGreaterThan(1)
  await holder.query('rollback')
})

test('progress names each step once, and its duration', async () => {
  const steps: string[] = []
  await migrate(
    { connectionString: database.url },
    {
      onProgress: ({ step, state, file, durationMs }) => {
        expect(durationMs).toBeGreaterThanOrEqual(0)
        if (state === 'finished') steps.push(file ?? step)
      },
    },
  )
  expect(steps.slice(0, 5)).toEqual(['connect', 'check', 'lock', 'bootstrap.sql', 'lock'])
  expect(steps[5]).toBe('migrations/1_tenants.sql')
  expect(steps.at(-1)).toBe('functions')
})
